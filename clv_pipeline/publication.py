"""Write, audit, then publish: a finished version becomes visible by one rename, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clv_pipeline.keeping import HISTORY, is_kept
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import export_tables, list_tables

PUBLISHED_SCHEMA, _HISTORY_TABLE = HISTORY


class PublicationRefusedError(RuntimeError):
    """The audit failed; what was published before stays."""


@dataclass(frozen=True)
class PublishReport:
    """What a publication holds.

    Attributes
    ----------
    version
        Its folder.
    rows
        Rows per table.
    """

    version: Path
    rows: dict[str, int]


def publish(
    settings: Settings,
    run_id: str,
    cutoff: Cutoff,
    audit: Callable[[Path], str | None],
    add: Callable[[Path], object] | None = None,
) -> PublishReport:
    """Export every mart into a new version, audit that version, and point readers at it.

    Parameters
    ----------
    settings
        Names the home and how many versions are kept.
    run_id, cutoff
        Name the version.
    audit
        Called with the new ``clv.duckdb``; returns a sentence when it must not be published.
    add
        Called with the new folder before the audit; writes what else belongs to the version.

    Raises
    ------
    PublicationRefusedError
        With the audit's sentence. The new version is removed, and the last one stays published.
    """
    version = _free_folder(settings.paths.versions / f"{cutoff}_{run_id}")
    tables = list_tables(settings, PUBLISHED_SCHEMA)
    if not tables:
        raise PublicationRefusedError("There are no marts to publish: the dbt marts did not run.")
    wanted = {table: is_published_row(settings, table) for table in tables}
    try:
        rows = export_tables(settings, PUBLISHED_SCHEMA, wanted, version)
        if add is not None:
            add(version)
        refusal = audit(version / settings.paths.published_database.name)
    except BaseException:
        shutil.rmtree(version, ignore_errors=True)
        raise
    if refusal is not None:
        shutil.rmtree(version, ignore_errors=True)
        raise PublicationRefusedError(f"{refusal} The last good publication stays.")
    swap_published(settings, version)
    return PublishReport(version, rows)


def is_published_row(settings: Settings, table: str) -> str:
    """Return SQL that says whether a row of a mart is published."""
    if table != _HISTORY_TABLE:
        return "TRUE"
    return is_published_cutoff(settings, ".".join(HISTORY))


def is_published_cutoff(settings: Settings, source: str) -> str:
    """Return SQL that says whether a row's ``cutoff_date`` belongs into the published history.

    Parameters
    ----------
    settings
        Say how many of the newest cutoffs are published beside the last of each month.
    source
        A table that holds every scored cutoff.
    """
    newest = settings.publish.history_cutoffs
    return "TRUE" if newest is None else is_kept(source, newest)


def _free_folder(wanted: Path) -> Path:
    # A step that is tried again must not touch the version that its first try may have published.
    folder, attempt = wanted, 1
    while folder.exists():
        attempt += 1
        folder = wanted.with_name(f"{wanted.name}_{attempt}")
    return folder


def swap_published(settings: Settings, version: Path) -> None:
    """Point readers at a finished version, by one rename; drop the oldest versions.

    A reader that has the old version open keeps it.
    """
    link = settings.paths.published
    temporary = link.with_name(f".published.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(version, link.parent), target_is_directory=True)
    temporary.replace(link)
    versions = sorted(settings.paths.versions.iterdir(), key=lambda folder: folder.stat().st_mtime)
    for folder in versions[: -settings.publish.keep_versions]:
        if folder.resolve() != version.resolve():
            shutil.rmtree(folder, ignore_errors=True)
