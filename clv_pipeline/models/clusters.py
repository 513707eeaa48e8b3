"""K-means on standardized behaviour: distances are features, clusters keep their numbers."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from clv_pipeline.models.base import (
    Files,
    dump_arrays,
    dump_json,
    load_arrays,
    load_json,
    sample_rows,
)
from clv_pipeline.models.baselines import squash
from clv_pipeline.models.panel import Floats, Matrix

BEHAVIOUR = ("frequency", "recency", "T", "days_since_last_order", "sum_value", "monetary_value")
MAX_ROWS = 20_000


class BehaviourClusters:
    """K-means on the logarithms of what sums up a customer's purchases.

    Fitted on training cutoffs alone. Standardization is by training's mean and spread; a missing
    value takes the mean.

    Parameters
    ----------
    count
        How many clusters; fewer where there are fewer distinct customers.
    seed
        Of the starts and the sample.

    Attributes
    ----------
    centroids_
        Shape (count, 6), standardized.
    center_, spread_
        Of the standardization.
    """

    def __init__(self, count: int = 6, seed: int = 0) -> None:
        self.count = count
        self.seed = seed

    def fit(self, X: Matrix, y: object = None) -> Self:
        """Fit on at most 20,000 training rows."""
        rows = X.take(sample_rows(len(X), MAX_ROWS, self.seed))
        raw = self._raw(rows)
        known = ~np.isnan(raw)
        counts = np.maximum(known.sum(axis=0), 1)
        self.center_ = np.where(known, raw, 0.0).sum(axis=0) / counts
        spread = np.sqrt((np.where(known, raw - self.center_, 0.0) ** 2).sum(axis=0) / counts)
        self.spread_ = np.where(spread > 1e-9, spread, 1.0)
        points = self.standardize(rows)
        distinct = len(np.unique(points, axis=0))
        # One thread: sums in the order of threads differ in their last bits.
        with threadpool_limits(1):
            fitted = KMeans(
                min(self.count, distinct), n_init=4, max_iter=100, random_state=self.seed
            ).fit(points)
        # A first numbering that does not depend on the start: by mean spend and recency.
        order = np.lexsort(fitted.cluster_centers_.T)
        self.centroids_ = np.ascontiguousarray(fitted.cluster_centers_[order])
        return self

    def align(self, previous: BehaviourClusters | None) -> Self:
        """Give the clusters the numbers of the nearest ones of an earlier model.

        Clusters are paired so that the summed squared distance between centroids, in the raw
        scale of this fit, is least (Hungarian assignment); clusters without a partner follow.
        """
        if previous is None or previous.centroids_.shape[1] != self.centroids_.shape[1]:
            return self
        before = previous.centroids_ * previous.spread_ + previous.center_
        before = (before - self.center_) / self.spread_
        cost = ((before[:, None, :] - self.centroids_[None, :, :]) ** 2).sum(axis=2)
        old, new = linear_sum_assignment(cost)
        paired = [int(k) for _, k in sorted(zip(old, new, strict=True))]
        rest = [k for k in range(len(self.centroids_)) if k not in paired]
        self.centroids_ = self.centroids_[paired + rest]
        return self

    def distances(self, X: Matrix) -> Floats:
        """Return the distance to each centroid, shape (n, clusters)."""
        points = self.standardize(X)
        columns = [np.sqrt(((points - c) ** 2).sum(axis=1)) for c in self.centroids_]
        return np.column_stack(columns)

    def predict(self, X: Matrix) -> NDArray[np.int64]:
        """Return the number of each row's nearest cluster, counted from 0."""
        return np.asarray(np.argmin(self.distances(X), axis=1), dtype=np.int64)

    def columns(self, X: Matrix) -> dict[str, Floats]:
        """Return the distances as named feature columns."""
        return {f"cluster_distance_{k}": d for k, d in enumerate(self.distances(X).T)}

    def to_files(self) -> Files:
        """Return the fitted model as named files."""
        arrays = dump_arrays(centroids=self.centroids_, center=self.center_, spread=self.spread_)
        document = {"count": self.count, "seed": self.seed}
        return {"model.json": dump_json(document), "arrays.npz": arrays}

    @classmethod
    def from_files(cls, files: Files) -> Self:
        """Read what ``to_files`` gave."""
        model = cls(**load_json(files["model.json"]))
        arrays = load_arrays(files["arrays.npz"])
        model.centroids_, model.center_, model.spread_ = (
            arrays[name] for name in ("centroids", "center", "spread")
        )
        return model

    def _raw(self, X: Matrix) -> Floats:
        return squash(np.column_stack([X.column(name) for name in BEHAVIOUR]))

    def standardize(self, X: Matrix) -> Floats:
        """Return the behaviours in the units of the centroids, shape (n, 6)."""
        return np.asarray(np.nan_to_num((self._raw(X) - self.center_) / self.spread_))
