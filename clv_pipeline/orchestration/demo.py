"""The demo's project: bundled real data or a simulated shop, with a clv.toml of its own."""

from __future__ import annotations

from pathlib import Path

from clv_pipeline.datasets import write_cdnow
from clv_pipeline.settings import CONFIG_NAME


class DemoError(RuntimeError):
    """The demo can't be written; the message says why and what to do."""


def prepare_demo(folder: Path, dataset: str, customers: int) -> None:
    """Write the demo's data and its clv.toml; what is there already stays.

    Parameters
    ----------
    folder
        Made where it is missing.
    dataset
        'cdnow' or 'shop'.
    customers
        Size of the simulated shop.

    Raises
    ------
    DemoError
        If the folder holds another project.
    """
    config = folder / CONFIG_NAME
    if config.exists():
        if f'name = "{dataset}"' not in config.read_text(encoding="utf-8"):
            raise DemoError(
                f"{folder} holds another project. Name another folder with --folder, or remove it."
            )
        return
    if dataset == "cdnow":
        write_cdnow(folder)
    else:
        from clv_pipeline.ingest.shop import write_shop

        write_shop(folder, customers=customers)
