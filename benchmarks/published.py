"""How good the values are that a user gets: files cut at a day, ``clv run``, the published table.

``python -m benchmarks.published`` cuts each shop of ``benchmarks.accuracy_shops`` at a cutoff, runs
the whole pipeline on what is left with nothing set but the horizon, reads ``customer_clv``, and
holds it against the days that were cut off. ``benchmarks.accuracy`` asks the same of the models
alone; here the choice of what serves, the gates and every feature have their say.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import pandas as pd

from benchmarks.accuracy import MEASURES, markdown
from benchmarks.accuracy_shops import CASES, features_at, labels_at, read_days
from clv_pipeline.evaluation.metrics import purchase_measures, value_measures
from clv_pipeline.models.histories import history_matrix
from clv_pipeline.models.history import HistoryModel
from clv_pipeline.timeline import Cutoff

RESULTS = Path(__file__).parent / "results" / "published.md"
CONFIG = """
[project]
reporting_currency = "USD"

[value]
horizons = [{horizon}]

[inputs.transactions]
files = ["orders.parquet"]

[inputs.transactions.columns]
user_id = "customer_id"
ts = "date"
"""


def run_pipeline(folder: Path, shop: str, day: str, horizon: int) -> pd.DataFrame:
    """Run the pipeline on the days up to a cutoff, and return what it published.

    Raises
    ------
    RuntimeError
        With the last lines that the run printed, if it failed.
    """
    days = read_days(shop)
    past = days.loc[days["date"] <= pd.Timestamp(day), ["customer_id", "date", "amount"]]
    past.to_parquet(folder / "orders.parquet", index=False)
    (folder / "clv.toml").write_text(CONFIG.format(horizon=horizon), encoding="utf-8")
    command = [sys.executable, "-m", "clv_pipeline.cli", "run", "--cutoff", day]
    done = subprocess.run(
        [*command, "--config", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{shop} {day}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    file = next((folder / ".clv").glob("published/clv.duckdb"))
    with duckdb.connect(str(file), read_only=True) as published:
        return published.sql(f"""
            SELECT customer_id, clv_{horizon}d AS value,
                probability_purchase_{horizon}d AS chance, model_version
            FROM customer_clv
        """).df()


def measure(shop: str, day: str, horizon: int) -> dict[str, object]:
    """Return the figures of one shop, cutoff and horizon."""
    cutoff = Cutoff(date.fromisoformat(day))
    start = time.perf_counter()
    with TemporaryDirectory() as place:
        folder = Path(place)
        answer = run_pipeline(folder, shop, day, horizon)
        manifests = sorted((folder / ".clv").glob("models/*/manifest.json"))
        manifest = json.loads(manifests[-1].read_text(encoding="utf-8"))
    seconds = time.perf_counter() - start
    rows = features_at(shop, cutoff)
    truth = labels_at(shop, cutoff, horizon).set_index("customer_id")
    if set(answer["customer_id"]) != set(truth.index):
        raise RuntimeError(f"{shop} {day}: the published customers are not those of the files.")
    answer = answer.set_index("customer_id").loc[truth.index]
    actual = truth["label_value"].to_numpy()
    X = history_matrix(rows)
    base = HistoryModel(horizon, "pareto_nbd", False).fit(X).forecast(X)["btyd_value"]
    found = value_measures(actual, answer["value"].to_numpy())
    chances = answer["chance"].to_numpy()
    return {
        "shop": shop,
        "cutoff": day,
        "horizon": horizon,
        "served_by": manifest["horizons"][str(horizon)]["served_by"],
        **{name: found[name] for name in MEASURES if name in found},
        "relative_rmse": found["rmse"] / value_measures(actual, base)["rmse"],
        "absolute_bias": abs(found["total_bias"]),
        "bias": found["total_bias"],
        "auc": purchase_measures(truth["has_purchase"].to_numpy(), chances)["auc"],
        "seconds": seconds,
    }


def main() -> None:
    """Print the table and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shop", action="append", help="only this shop; may be repeated")
    arguments = parser.parse_args()
    rows = []
    for shop, day, horizon in CASES:
        if arguments.shop and shop not in arguments.shop:
            continue
        try:
            rows.append(measure(shop, day, horizon))
        except FileNotFoundError as missing:
            print(f"{shop} left out: {missing}", file=sys.stderr)
            continue
        print(rows[-1], file=sys.stderr, flush=True)
    found = pd.DataFrame(rows)
    columns = ["shop", "cutoff", "horizon", "served_by", *MEASURES, "bias"]
    means = found.groupby("shop", sort=False)[list(MEASURES)].mean()
    means.loc["mean over shops"] = means.mean()
    text = "\n".join(
        [
            "# What is published, held against what came\n",
            "Printed by `python -m benchmarks.published`; RMSE relative to Pareto/NBD + GG.\n",
            markdown(found[columns].replace({np.nan: None})),
            "\n## Means by shop\n",
            markdown(means.reset_index()),
        ]
    )
    print(text)
    RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
