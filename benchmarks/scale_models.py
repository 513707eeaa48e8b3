"""What the model side costs as customers grow: training, scoring, reasons, gates, publication.

The customers of a project with a champion (`clv demo` makes one) are repeated with noise.

    python -m benchmarks.scale_models --project clv_demo
    python -m benchmarks.scale_models --project clv_demo --customers 5_000_000 --runs 1
    python -m benchmarks.scale_models --project clv_demo --only training,sample

Questions: training (plain XGBoost on the same float32 matrix; the pipeline's own boosting; the same
from DuckDB's Arrow batches, and with the bins on disk), sample (what training on a stratified tenth
costs in accuracy, beside a tenth drawn alike), scoring (all horizons with intervals), standing
(ranks, segments, reasons), totals, gates (the rules on the predictions), publication (the tables of
scores as a version of Parquet and DuckDB).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb

from benchmarks.measuring import RESULTS, Table, measure, write_results
from benchmarks.scaled_shops import newest_cutoff, repeat_customers
from clv_pipeline.evaluation.metrics import value_measures
from clv_pipeline.models.base import FitOptions, sample_rows
from clv_pipeline.models.binning import Batch, bin_batches
from clv_pipeline.models.boosters import boost
from clv_pipeline.models.boosting import HurdleModel
from clv_pipeline.models.encoding import Encoder
from clv_pipeline.models.panel import Matrix, Panel
from clv_pipeline.models.sampling import stratify
from clv_pipeline.orchestration import learning, serving
from clv_pipeline.settings import Settings, load_settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import export_tables, open_warehouse, quote_identifier

QUESTIONS = ("training", "sample", "scoring", "standing", "totals", "gates", "publication")
TREES, BINS = 50, 64
_rows: dict[str, Any] = {}


def numeric_columns(settings: Settings) -> list[str]:
    """Return the numbers among the features, in the order of the table."""
    with open_warehouse(settings, read_only=True) as connection:
        described = connection.execute("DESCRIBE features.customer_features").fetchall()
    return [row[0] for row in described if row[1] in ("DOUBLE", "BIGINT", "INTEGER", "FLOAT")]


def _query(settings: Settings) -> str:
    columns = ", ".join(f"{quote_identifier(n)}::FLOAT" for n in numeric_columns(settings))
    # A label that trees have something to learn of: spend by silence, with luck.
    label = (
        "(greatest(coalesce(sum_value, 0), 0) / (30 + coalesce(days_since_last_order, 500)) "
        "* (0.5 + (hash(customer_id) % 1000) / 1000.0))::FLOAT"
    )
    return f"SELECT {columns}, {label} AS label FROM features.customer_features"


def load_matrix(folder: Path) -> None:
    """Read the matrix of a project before the clock starts."""
    settings = load_settings(folder)
    parts = list(_arrow_batches(settings))
    _rows["values"] = np.concatenate([part.values for part in parts])
    _rows["label"] = np.concatenate([part.label for part in parts if part.label is not None])


def _arrow_batches(settings: Settings) -> Iterator[Batch]:
    with open_warehouse(settings, read_only=True) as connection:
        for part in connection.sql(_query(settings)).to_arrow_reader(100_000):
            columns = [c.to_numpy(zero_copy_only=False) for c in part.columns]
            yield Batch(np.column_stack(columns[:-1]), columns[-1])


def _parameters() -> dict[str, Any]:
    options = FitOptions(90, trees=TREES, max_bin=BINS)
    return {
        "tree_method": "hist",
        "objective": "reg:tweedie",
        "max_depth": options.depth,
        "eta": options.learning_rate,
        "max_bin": BINS,
        "subsample": 0.8,
        "colsample_bytree": 0.5,
        "min_child_weight": 10.0,
        "lambda": 5.0,
        "nthread": options.threads,
        "seed": 0,
    }


def train_plainly() -> int:
    """Train as XGBoost's own introduction does."""
    bins = xgb.QuantileDMatrix(_rows["values"], label=_rows["label"], max_bin=BINS)
    return int(xgb.train(_parameters(), bins, TREES).num_boosted_rounds())


def train_ours() -> int:
    """Train with the pipeline's boosting on the same matrix."""
    values = _rows["values"]
    day = np.full(len(values), np.datetime64("2024-01-31"))
    names = tuple(f"c{k}" for k in range(values.shape[1]))
    X = Matrix(np.empty(len(values), dtype=object), day, names, values)
    options = FitOptions(90, trees=TREES, max_bin=BINS)
    label = _rows["label"].astype(np.float64)
    return int(boost(X, label, options, {"objective": "reg:tweedie"}).num_boosted_rounds())


def train_from_arrow(folder: Path, on_disk: bool) -> int:
    """Train from DuckDB's batches; no matrix is ever held."""
    settings = load_settings(folder)
    cache = Path(tempfile.mkdtemp(dir=folder)) if on_disk else None
    try:
        bins = bin_batches(partial(_arrow_batches, settings), BINS, cache=cache)
        booster = xgb.train(_parameters(), bins, TREES)
        del bins  # removes its files
        return int(booster.num_boosted_rounds())
    finally:
        if cache is not None:
            shutil.rmtree(cache, ignore_errors=True)


def fit_on_sample(folder: Path, how: str, share: float) -> dict[str, float]:
    """Fit a hurdle on cutoffs of 90 days and measure it on the newest one."""
    from clv_pipeline.features.services import find_service

    settings = load_settings(folder)
    columns = find_service(settings).inputs
    with open_warehouse(settings, read_only=True) as connection:
        days = connection.execute(
            "SELECT DISTINCT cutoff_date FROM as_of.customer_labels WHERE horizon_days = 90 "
            "ORDER BY 1"
        ).fetchall()
    cutoffs = tuple(Cutoff(row[0]) for row in days)
    panel = Panel.build(*learning.read_panel(settings, cutoffs, columns), columns)
    learnt = [c for c in cutoffs if c.is_matured(90, cutoffs[-1].day)]
    seen, y = panel.for_cutoffs(learnt).matrix(90)
    rows, target = panel.for_cutoffs(cutoffs[-1:]).matrix(90)
    encoder = Encoder.fit(seen, columns)
    X, most, gini, bias, rmse = encoder.transform(seen), round(share * len(seen)), [], [], []
    for seed in range(1 if how == "all rows" else 3):
        if how == "drawn alike":
            chosen, weight = sample_rows(len(X), most, seed), None
        else:
            sample = stratify(X.cutoff_date, y, most, seed)
            chosen, weight = sample.rows, sample.weight
        options = FitOptions(90, trees=TREES, seed=seed)
        model = HurdleModel(options).fit(X.take(chosen), y.take(chosen), None, weight)
        found = value_measures(target.value, model.predict(encoder.transform(rows)))
        gini.append(found["normalized_gini"])
        bias.append(found["total_bias"])
        rmse.append(found["rmse"])
    return {
        "rows": float(most),
        "gini": float(np.mean(gini)),
        "bias": float(np.mean(bias)),
        "rmse": float(np.mean(rmse)),
    }


def score(folder: Path) -> int:
    """Answer for every customer."""
    settings = load_settings(folder)
    return serving.score(settings, newest_cutoff(settings), "benchmark").rows


def stand(folder: Path) -> int:
    """Say where every customer stands, and why."""
    settings = load_settings(folder)
    return serving.stand(settings, newest_cutoff(settings))


def total(folder: Path) -> int:
    """Add up."""
    settings = load_settings(folder)
    return len(serving.total(settings, newest_cutoff(settings)))


def check(folder: Path) -> str:
    """Check every prediction."""
    from data_quality.gates import run_gate

    settings = load_settings(folder)
    results = run_gate(settings, "predictions", newest_cutoff(settings), "benchmark").results
    passed = int(results["is_passed"].astype(bool).sum())
    return f"{passed} of {len(results)} checks passed; nothing has landed for the others"


def publish(folder: Path) -> int:
    """Write the tables of scores as a version."""
    settings = load_settings(folder)
    version = settings.paths.versions / "benchmark"
    shutil.rmtree(version, ignore_errors=True)
    tables = {"customer_predictions": "TRUE", "customer_standing": "TRUE"}
    return sum(export_tables(settings, "scores", tables, version).values())


def main() -> None:
    """Read the arguments, make what is missing, measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--project", type=Path, default=Path("clv_demo"), help="has a champion")
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", type=lambda text: text.split(","), default=QUESTIONS)
    parser.add_argument("--folder", type=Path, default=Path("clv_benchmarks"))
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the table goes")
    given = parser.parse_args()
    customers, runs, wanted = given.customers, given.runs, given.only
    folder = given.folder / f"customers_{customers}"
    settings = repeat_customers(given.project, folder, customers)
    tables = []
    if "training" in wanted:
        table = Table(
            f"Training, {customers:,} rows of {len(numeric_columns(settings))} numbers, "
            f"{TREES} trees",
            against="plain XGBoost",
        )
        load = partial(load_matrix, folder)
        table.add(measure("plain XGBoost", train_plainly, runs=runs, prepare=load))
        table.add(measure("the pipeline's boosting", train_ours, runs=runs, prepare=load))
        for name, on_disk in (("from Arrow batches", False), ("with bins on disk", True)):
            table.add(
                measure(name, train_from_arrow, folder, on_disk, runs=runs),
                note="reads the rows from DuckDB, twice",
            )
        tables.append(table)
    if "sample" in wanted:
        table = Table("Accuracy of a sample, hurdle over 90 days", against="all rows")
        for how, share in (("all rows", 1.0), ("stratified tenth", 0.1), ("drawn alike", 0.1)):
            found = measure(how, fit_on_sample, given.project, how, share, runs=1)
            a = found.answer
            figures = f"Gini {a['gini']:.3f}, bias {a['bias']:+.3f}, RMSE {a['rmse']:.2f}"
            table.add(found, note=f"{a['rows']:,.0f} rows: {figures}")
        tables.append(table)
    whole = Table(f"A night of {customers:,} customers")
    steps = {"scoring": score, "standing": stand, "totals": total, "gates": check}
    for name, function in {**steps, "publication": publish}.items():
        if name in wanted:
            # Each step replaces what it wrote, so it can run again.
            found = measure(name, function, folder, runs=runs)
            whole.add(found, note=_describe(found.answer, found.median, customers))
    if whole.lines:
        tables.append(whole)
    is_whole = tuple(wanted) == QUESTIONS
    write_results(
        f"scale_models_{customers}" + (f"_{wanted[0]}" if len(wanted) == 1 else ""),
        f"The model side at {customers:,} customers",
        f"python -m benchmarks.scale_models --customers {customers} --runs {runs}"
        + ("" if is_whole else f" --only {','.join(wanted)}"),
        tables,
        "Customers of a project, repeated with noise; its champion scores them.",
        given.results,
    )


def _describe(answer: object, seconds: float, customers: int) -> str:
    if isinstance(answer, str):
        return answer
    return f"{answer:,} rows, {customers / max(seconds, 1e-9):,.0f} customers a second"


if __name__ == "__main__":
    main()
