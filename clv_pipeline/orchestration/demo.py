"""The demo's project: bundled real data or a simulated shop, with a clv.toml of its own."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from clv_pipeline.settings import CONFIG_NAME
from clv_pipeline.warehouse import write_atomically

CDNOW_TOML = """\
# The CDNOW data set: every purchase of 23,570 customers of a music shop who first bought in the
# first quarter of 1997, up to June 1998. Real data; the field's standard.
[project]
name = "cdnow"
reporting_currency = "USD"
time_zone = "UTC"        # the data have days only
home = ".clv"            # everything that a run writes lies here

[value]
horizons = [30, 90, 180, 365]

[cadence]
first_cutoff = 1997-03-31
last_cutoff = 1998-06-30 # the data end here

[inputs.transactions]
files = ["data/cdnow.csv.gz"]
date_format = "%Y-%m-%d"
grain = "order"
columns = { user_id = "customer_id", ts = "date", amount = "amount", quantity = "quantity" }
"""


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
        data = files("clv_pipeline.datasets").joinpath("cdnow.csv.gz").read_bytes()
        write_atomically(folder / "data" / "cdnow.csv.gz", data)
        write_atomically(config, CDNOW_TOML.encode())
    else:
        from clv_pipeline.ingest.shop import write_shop

        write_shop(folder, customers=customers)
