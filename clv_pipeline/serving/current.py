"""Which publication serves: a request keeps the one it began with, the next one sees the newest."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from clv_pipeline.serving import redis_store
from clv_pipeline.serving.online import OnlineStore, OnlineStoreError
from clv_pipeline.serving.publishing import open_version
from clv_pipeline.settings import Settings

if TYPE_CHECKING:
    from clv_pipeline.serving.predicting import Predictor

CHECK_SECONDS = 0.1
# A version may be dropped between reading the pointer and opening it; the pointer has moved then.
_TRIES = 5
_LOG = logging.getLogger(__name__)


class NothingPublishedError(RuntimeError):
    """There is nothing to serve yet."""


class Served:
    """One publication, open for as long as a request or the server holds it.

    Parameters
    ----------
    settings
        Of the project.
    folder
        The version.

    Attributes
    ----------
    store
        Its online store.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.store: OnlineStore = open_version(settings, folder)
        self.version = self.store.version
        self._settings = settings
        self._folder = folder
        self._lock = threading.Lock()
        self._predictor: Predictor | None = None

    @property
    def can_predict(self) -> bool:
        """Whether the model is loaded."""
        return self._predictor is not None

    def predictor(self) -> Predictor:
        """Return what answers for new rows; loads the model the first time, in a second or two."""
        # The model brings XGBoost and scikit-learn with it.
        from clv_pipeline.serving.predicting import Predictor

        with self._lock:
            if self._predictor is None:
                self._predictor = Predictor(self._settings, self._folder, self.version)
            return self._predictor


class CurrentVersion:
    """Follows the pointer to the newest publication.

    Parameters
    ----------
    settings
        Name the pointer: the link ``published``, or a key of Redis.
    check_seconds
        The pointer is read again when this time has passed.
    """

    def __init__(self, settings: Settings, check_seconds: float = CHECK_SECONDS) -> None:
        self._settings = settings
        self._check_seconds = check_seconds
        self._lock = threading.Lock()
        self._checked_at = float("-inf")
        self._name: str | None = None
        self._served: Served | None = None

    def get(self) -> Served:
        """Return the publication that serves now.

        Raises
        ------
        NothingPublishedError
            Before the first publication.
        OnlineStoreError
            If it can't be read, and none was served before it.
        """
        served = self._served
        if served is not None and time.monotonic() - self._checked_at < self._check_seconds:
            return served
        with self._lock:
            if time.monotonic() - self._checked_at >= self._check_seconds or self._served is None:
                self._follow()
                self._checked_at = time.monotonic()
            assert self._served is not None  # noqa: S101 - _follow raises otherwise
            return self._served

    def _follow(self) -> None:
        for attempt in range(_TRIES):
            name = self._read_pointer()
            if name is None and self._served is not None:
                return
            if name is None:
                raise NothingPublishedError("Nothing is published yet: run `clv run` first.")
            if name == self._name and self._served is not None:
                return
            try:
                self._served = Served(self._settings, self._settings.paths.versions / name)
                self._name = name
                return
            except OnlineStoreError as error:
                if self._read_pointer() != name and attempt + 1 < _TRIES:
                    continue
                if self._served is None:
                    raise
                # What was served before is whole; it stays until a version can be read.
                _LOG.error("%s The publication before it stays.", error)
                self._name = name
                return

    def _read_pointer(self) -> str | None:
        if self._settings.serving.online_store == "redis":
            client = redis_store.connect(self._settings)
            return redis_store.current_name(client, self._settings.serving.redis_prefix)
        try:
            return self._settings.paths.published.readlink().name
        except FileNotFoundError:
            return None
