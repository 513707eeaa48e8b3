"""What the assets have in common: who answers for them, how they are tried again, their pool."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg
import duckdb

from clv_pipeline.warehouse import WarehouseError

OWNER = "team:customer-value"
# Steps of one run follow each other; the pool keeps steps of other runs from writing meanwhile.
POOL = "warehouse"
# For faults that pass, such as a file that another program holds for a moment.
RETRY = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL)
BACKFILL = dg.BackfillPolicy.multi_run(1)


def stage_asset(
    *,
    key: dg.AssetKey,
    partitions: dg.PartitionsDefinition[str],
    group: str,
    kinds: set[str],
    description: str,
    deps: Sequence[dg.AssetKey | dg.AssetDep] = (),
    check_specs: Sequence[dg.AssetCheckSpec] = (),
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Decorate a function as an asset with what all of ours have in common."""
    return dg.asset(
        key=key,
        deps=deps,
        check_specs=check_specs,
        partitions_def=partitions,
        backfill_policy=BACKFILL,
        group_name=group,
        owners=[OWNER],
        kinds=kinds,
        retry_policy=RETRY,
        pool=POOL,
        description=description,
    )


@contextmanager
def explained(prefix: str = "", but: type[Exception] = dg.Failure) -> Iterator[None]:
    """Turn an error into a failure that says why in a sentence; only passing faults are retried.

    Parameters
    ----------
    prefix
        Put before the sentence.
    but
        Errors of this kind pass as they are.

    Raises
    ------
    dagster.Failure
        Not to be tried again: the same input would fail in the same way.
    """
    try:
        yield
    except (dg.Failure, but):
        raise
    except Exception as error:
        if is_passing_fault(error):
            raise
        raise dg.Failure(prefix + describe(error), allow_retries=False) from error


def is_passing_fault(error: BaseException | None) -> bool:
    """Whether the same step may succeed a moment later."""
    if isinstance(error, FileNotFoundError | PermissionError):
        return False
    if isinstance(error, OSError | duckdb.IOException):
        return True
    return isinstance(error, WarehouseError) and is_passing_fault(error.__cause__)


def describe(error: BaseException) -> str:
    """Return an error as a sentence; those of this project are sentences already."""
    text = str(error).strip() or type(error).__name__
    if type(error).__module__.partition(".")[0] in ("clv_pipeline", "data_quality"):
        return text
    return f"{type(error).__name__}: {text}"
