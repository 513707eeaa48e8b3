"""Real data that come with the package, ready to run."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from clv_pipeline.settings import CONFIG_NAME
from clv_pipeline.warehouse import write_atomically


def write_cdnow(folder: Path) -> Path:
    """Copy the CDNOW orders into a folder and write the clv.toml that maps them.

    Parameters
    ----------
    folder
        Made where it is missing. Files of the same names are replaced.

    Returns
    -------
    Path
        The clv.toml.
    """
    bundled = files(__name__)
    for name, target in (("cdnow.csv.gz", "data/cdnow.csv.gz"), ("README.md", "data/README.md")):
        write_atomically(folder / target, bundled.joinpath(name).read_bytes())
    config = folder / CONFIG_NAME
    write_atomically(config, bundled.joinpath("cdnow.toml").read_bytes())
    return config
