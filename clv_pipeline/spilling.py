"""Where DuckDB puts what does not fit into memory: a folder per process, bounded and cleaned up."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path

from clv_pipeline.settings import Settings

# Below this much free disk nothing is begun: the warehouse itself needs room to grow.
LEAST_FREE_BYTES = 256 * 2**20
# Of the free disk, what spilling leaves to everything else.
_KEPT_SHARE = 0.1


def spill_folder(settings: Settings) -> Path:
    """Return the folder that this process spills to; DuckDB makes it when it needs it."""
    return settings.paths.spill / str(os.getpid())


def spill_limit(settings: Settings) -> str:
    """Return how much this process may spill, in DuckDB's words.

    The disk is looked at once per process: connections to one file must agree on their settings.
    """
    if settings.engine.spill_limit is not None:
        return settings.engine.spill_limit
    return f"{_share_of_free(settings.paths.spill) // 2**20} MiB"


def explain_lack_of_space(settings: Settings) -> str | None:
    """Say in a sentence that the disk is full; None where it is not."""
    free = _free_bytes(settings.paths.spill)
    if free >= LEAST_FREE_BYTES:
        return None
    return (
        f"Only {free // 2**20} MiB are free on the disk of {settings.paths.home}: a run needs room "
        f"for the warehouse and for what does not fit into memory, {LEAST_FREE_BYTES // 2**20} MiB "
        "at the very least. Free some, or set home under [project] in clv.toml to a larger disk."
    )


def remove_leftovers(settings: Settings) -> list[Path]:
    """Remove what processes have left that were killed.

    Returns
    -------
    list of Path
        The folders that were removed.
    """
    removed = []
    for folder in settings.paths.spill.glob("*"):
        if folder.is_dir() and folder.name.isdigit() and not _is_alive(int(folder.name)):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
        elif folder.name.startswith("duckdb_temp_"):
            folder.unlink(missing_ok=True)
            removed.append(folder)
    return removed


@cache
def _share_of_free(folder: Path) -> int:
    return int(_free_bytes(folder) * (1 - _KEPT_SHARE))


def _free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _is_alive(process: int) -> bool:
    if os.name != "posix":
        return True  # elsewhere, asking would end the process
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
