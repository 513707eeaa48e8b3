"""What components of texts bring: do four numbers tell a bad review from a good one?

    python -m benchmarks.texts reviews.parquet --message review_comment_message \
        --stars review_score --day review_creation_date --scorer portuguese

Components are fitted on the earliest 500 reviews, as the pipeline does; a logistic regression
learns on half of the later ones and is asked about the newest half. Minilm needs its package.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from clv_pipeline.settings import TextSettings
from clv_pipeline.signals.components import MIN_TEXTS, load_components
from clv_pipeline.signals.scorers import check_scores, load_scorer

# Stars up to which a review is bad.
BAD = 2


def main() -> None:
    """Print a table: columns that a regression reads, its area under the curve, texts a second."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reviews", type=Path)
    for name in ("message", "stars", "day"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--scorer", default="english")
    asked = parser.parse_args()
    rows = pd.read_parquet(asked.reviews, columns=[asked.message, asked.stars, asked.day])
    rows = rows.dropna().sort_values([asked.day, asked.message], ignore_index=True)
    texts = rows[asked.message].astype(str).tolist()
    is_bad = (rows[asked.stars] <= BAD).to_numpy()
    scorer = load_scorer(TextSettings(scorer=asked.scorer))
    sentiment = check_scores(scorer, texts)[["sentiment"]].fillna(0.0).to_numpy()
    found, speed = {"sentiment": sentiment}, {"sentiment": np.nan}
    for name in ("words", "minilm"):
        started = time.process_time()
        basis = load_components(name).fit(texts[:MIN_TEXTS])
        if basis is None:
            raise SystemExit(f"{len(texts)} reviews are too few.")
        found[name] = np.nan_to_num(basis.transform(texts))
        speed[name] = len(texts) / (time.process_time() - started)
        found[f"sentiment and {name}"] = np.hstack([sentiment, found[name]])
    middle = (MIN_TEXTS + len(texts)) // 2
    print(f"{len(texts)} reviews, {is_bad[middle:].mean():.0%} of the newest half are bad\n")
    print("| read | area under the curve | texts a second |\n|---|---|---|")
    for name, X in found.items():
        model = make_pipeline(StandardScaler(), LogisticRegression())
        model.fit(X[MIN_TEXTS:middle], is_bad[MIN_TEXTS:middle])
        area = roc_auc_score(is_bad[middle:], model.predict_proba(X[middle:])[:, 1])
        rate = speed.get(name, np.nan)
        print(f"| {name} | {area:.3f} | {'' if np.isnan(rate) else round(rate)} |")


if __name__ == "__main__":
    main()
