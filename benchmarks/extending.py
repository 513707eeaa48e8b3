"""How much of an extended answer is to be the learned one: windows that no past cutoff could test.

``python -m benchmarks.extending`` takes young shops, learns over a shorter horizon what the long
one has no labels for, extends it in the pipeline's own way with several shares of the learned
answer, and prints how good each is. About three minutes of one core.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from benchmarks.accuracy import MEASURES, Case, markdown
from benchmarks.accuracy_shops import features_at
from clv_pipeline.evaluation.metrics import value_measures
from clv_pipeline.models import clv
from clv_pipeline.models.histories import history_matrix
from clv_pipeline.models.history import HistoryModel

RESULTS = Path(__file__).parent / "results" / "extending.md"
SHARES = (0.0, 0.5, 0.75, 1.0)
REAL = ("cdnow", "online_retail")
WINDOWS: tuple[tuple[str, str, int], ...] = (
    ("cdnow", "1997-08-31", 180),
    ("cdnow", "1997-08-31", 300),
    ("cdnow", "1997-09-30", 273),
    ("cdnow", "1997-10-31", 240),
    ("cdnow", "1997-11-30", 200),
    ("cdnow", "1997-12-31", 180),
    ("online_retail", "2010-05-31", 180),
    ("online_retail", "2010-06-30", 120),
    ("online_retail", "2010-06-30", 150),
    ("online_retail", "2010-07-31", 120),
    ("christmas", "2021-09-30", 180),
    ("christmas", "2021-12-31", 180),
    ("christmas", "2021-12-31", 300),
    ("wholesale", "2021-09-30", 180),
    ("wholesale", "2021-12-31", 180),
    ("wholesale", "2021-12-31", 300),
    ("uneven_years", "2021-09-30", 180),
    ("uneven_years", "2021-10-31", 270),
    ("uneven_years", "2021-12-31", 300),
)


def measure(shop: str, day: str, horizon: int) -> list[dict[str, object]]:
    """Return a row per share.

    Raises
    ------
    RuntimeError
        If the pipeline would not extend a shorter horizon here.
    """
    case = Case(shop, day, horizon)
    model = case.fit()
    if horizon not in model.bridged_:
        raise RuntimeError(f"{horizon} days after {day} can be tested in {shop}.")
    X = history_matrix(case.rows)
    plain = HistoryModel(horizon, "pareto_nbd", False).fit(X).forecast(X)["btyd_value"]
    base = value_measures(case.truth["label_value"].to_numpy(), plain)["rmse"]
    rows: list[dict[str, object]] = []
    served = clv.LEARNED_SHARE
    try:
        for share in SHARES:
            clv.LEARNED_SHARE = share
            figures = case.measure(*case.answer(model), base)
            kind = "real" if shop in REAL else "simulated"
            name = f"{share:.2f}" + (", serves" if share == served else "")
            rows.append({"shops": kind, "learned share": name, "shop": shop, **figures})
    finally:
        clv.LEARNED_SHARE = served
    features_at.cache_clear()
    return rows


def main() -> None:
    """Print the table and write it down."""
    rows: list[dict[str, object]] = []
    for window in WINDOWS:
        try:
            rows += measure(*window)
        except FileNotFoundError as missing:
            print(f"{window[0]} left out: {missing}", file=sys.stderr)
    found = pd.DataFrame(rows)
    parts = [
        "# Extending what was learned over a shorter horizon\n",
        "Printed by `python -m benchmarks.extending`: means over windows that no past cutoff could "
        "test; RMSE relative to Pareto/NBD + Gamma-Gamma.\n",
    ]
    for kind, some in (*found.groupby("shops", sort=False), ("all", found)):
        means = some.groupby("learned share", sort=False)[list(MEASURES)].mean().reset_index()
        windows = len(some) // len(SHARES)
        parts += [f"\n## {kind} shops: {windows} windows\n", markdown(means)]
    text = "\n".join(parts)
    print(text)
    RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
