"""Landing: raw files become typed rows of raw.*, each file once, and nothing is lost on the way.

A file and its rows land in one transaction, so that a run that is killed leaves nothing half. Files
land in the order of their names. What can't be read goes to ``ops.quarantine`` with file, row
number and reason; for each file, rows and amounts in = kept + quarantined, or landing stops.

A file is known by the hash of its content, and read for that only when it looks changed. It is
landed anew, under its old number, when the settings that decide how it is read have changed, and
when an exchange rate that its rows lacked has come.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from clv_pipeline.ingest import ledger, rates
from clv_pipeline.ingest.contract import CONTRACTS, Contract
from clv_pipeline.ingest.judging import Judge
from clv_pipeline.ingest.lacking_rates import files_with_new_rates
from clv_pipeline.ingest.mapping import compare_columns, map_columns, nearest
from clv_pipeline.ingest.pace import Pace
from clv_pipeline.ingest.parsing import Parser
from clv_pipeline.ingest.posting import Delivery, Poster
from clv_pipeline.ingest.readers import (
    Rows,
    explain_unread,
    read_csv_carefully,
    read_csv_fast,
    read_csv_shape,
    read_parquet,
    read_table,
)
from clv_pipeline.ingest.report import (
    InputReport,
    LandingError,
    LandingReport,
    Notice,
    Totals,
    UnreadError,
)
from clv_pipeline.ingest.sightings import Sightings
from clv_pipeline.ingest.sources import (
    DamagedFileError,
    Source,
    find_files,
    hash_file,
    look_at,
    name_below,
)
from clv_pipeline.ingest.tables import attached_table
from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import open_warehouse

Progress = Callable[[str], None]

# Rates come first: whether an amount can be converted is found out as it lands.
LANDING_ORDER = ("exchange_rates", *(name for name in CONTRACTS if name != "exchange_rates"))
# Inputs whose rows replace each other by key, so that a file with more rows counts none twice.
_KEYED_INPUTS = ("users", "account_merges", "exchange_rates")


def land_inputs(
    settings: Settings,
    run_id: str,
    inputs: Sequence[str] | None = None,
    progress: Progress | None = None,
    received_at: datetime | None = None,
) -> LandingReport:
    """Land every file that is not landed yet.

    The caller holds the run lock (:func:`clv_pipeline.warehouse.hold_run_lock`).

    Parameters
    ----------
    settings
        Names the files and how to read them.
    run_id
        Noted with everything that is written.
    inputs
        Names of inputs; all of them when None.
    progress
        Called with a sentence per file.
    received_at
        When the files arrived, with an offset: rows that lie more than a day later are
        quarantined. When None, only rows after the year 2200 are.

    Returns
    -------
    LandingReport

    Raises
    ------
    LandingError
        If a required file is missing or damaged, if a column is missing, if a file whose rows
        have no keys changed in place, or if account merges run in a circle. Files landed before
        the error stay landed; nothing of the file at fault does.
    """
    wanted = tuple(CONTRACTS if inputs is None else inputs)
    for name in wanted:
        if name not in CONTRACTS:
            raise LandingError(
                f"'{name}' is no input.{nearest(name, list(CONTRACTS))} "
                f"Inputs are {', '.join(CONTRACTS)}."
            )
    reports = {}
    with open_warehouse(settings) as connection:
        ledger.create_tables(connection)
        for name in LANDING_ORDER:
            if name in wanted:
                landing = _Landing(connection, settings, name, run_id, progress, received_at)
                reports[name] = landing.land()
    return LandingReport(run_id, reports)


def land_input(
    settings: Settings,
    name: str,
    run_id: str,
    progress: Progress | None = None,
    received_at: datetime | None = None,
) -> InputReport:
    """Land the files of one input; see :func:`land_inputs`."""
    return land_inputs(settings, run_id, [name], progress, received_at).inputs[name]


class _Landing:
    """Lands one input."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        settings: Settings,
        name: str,
        run_id: str,
        progress: Progress | None,
        received_at: datetime | None,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._contract: Contract = CONTRACTS[name]
        self._progress = progress or (lambda sentence: None)
        self._pace = Pace(name, self._progress)
        self._received_at = received_at
        landed_at = received_at or datetime.now(UTC)
        self._poster = Poster(connection, settings, self._contract, run_id, landed_at)
        self._known = ledger.landed_files(connection, name)
        self._new: dict[int, str] = {}
        self._totals = Totals()
        self._count_skipped = 0
        self._count_damaged = 0
        self._warnings: list[str] = []
        self._needs_full_refresh = False

    def land(self) -> InputReport:
        name = self._contract.name
        chosen = next((c for key, c in self._settings.inputs.items() if key == name), None)
        if chosen is None:
            if self._contract.required:
                raise LandingError(
                    f"clv.toml has no [inputs.{name}], which every run needs. Name the files "
                    f'there: files = ["{name}*.csv"].'
                )
            return InputReport(name, landed=ledger.landed_totals(self._connection, name))
        self._chosen = chosen
        self._hash = ledger.settings_hash(self._settings, self._contract, chosen)
        self._waiting = set[int]()
        if name == "transactions":
            self._waiting = files_with_new_rates(self._connection, self._settings)
        if name == "exchange_rates":
            rates.drop_central_bank_rates(self._connection)
        if chosen.duckdb is not None:
            self._land_table(chosen.duckdb)
        else:
            self._land_files()
        restated = self._poster.note_restated_orders(self._new)
        self._warnings += [notice.message for notice in restated]
        self._warn_of_stale_files()
        return InputReport(
            name,
            files_seen=len(self._new) + self._count_skipped + self._count_damaged,
            files_new=len(self._new),
            files_skipped=self._count_skipped,
            files_quarantined=self._count_damaged,
            new=self._totals,
            landed=ledger.landed_totals(self._connection, name),
            reasons=self._poster.count_reasons(list(self._new)),
            warnings=tuple(self._warnings),
            needs_full_refresh=self._needs_full_refresh,
        )

    def _land_files(self) -> None:
        root = self._settings.root
        files, missing = find_files(root, self._chosen)
        self._pace.expect(files)
        sightings = Sightings(self._connection, root)
        for pattern in missing:
            self._miss(str(root / pattern))
        for file in files:
            try:
                source = sightings.recall(file)
                if source is None or not self._skips(source):
                    source = look_at(root, file, self._chosen)
                    if not self._skips(source):
                        self._land_source(source)
                    sightings.note(source)
                self._pace.end_file(source)
            except DamagedFileError as error:
                self._set_aside(file, error)

    def _land_table(self, file: Path) -> None:
        if not (self._settings.root / file).is_file():
            self._miss(str(self._settings.root / file))
            return
        attached = attached_table(self._connection, self._settings.root, self._chosen)
        with attached as (source, relation):
            if not self._skips(source):
                rows = read_table(self._connection, relation, source.count_records)
                self._land_rows(source, rows)

    def _miss(self, pattern: str) -> None:
        """Stop for a file that is needed and was never there; else say that it is missing."""
        name = self._contract.name
        message = f"No file of the input '{name}' was found at {pattern}."
        if self._contract.required and not self._known:
            raise LandingError(
                f"{message} It is needed: put the file there, or name its place in clv.toml under "
                f"[inputs.{name}]."
            )
        self._warnings.append(message)

    def _skips(self, source: Source) -> bool:
        """Whether the content is landed already, under the settings and the rates of now."""
        entry = self._entry(source)
        if entry is None or entry.settings_hash != self._hash or entry.file_id in self._waiting:
            return False
        if entry.status == "quarantined":
            # It is read again, and found damaged again, so that every run says so.
            return False
        self._count_skipped += 1
        self._take_out_newer(source.path, entry.file_id)
        if entry.path != source.path:
            notice = Notice(
                "duplicate_file",
                f"{source.path} has the same content as {entry.path} and is counted once.",
            )
            self._warnings.append(notice.message)
            self._poster.warn(entry.file_id, source.path, [notice])
        return True

    def _take_out_newer(self, path: str, file_id: int) -> None:
        """Drop what a file held in between, where it holds everything and is as it was again."""
        held = [e.file_id for e in self._known if e.path == path and e.status == "landed"]
        newer = [number for number in held if number > file_id]
        if newer and self._chosen.when_changed == "replace":
            self._poster.take_out(newer)
            self._known = ledger.landed_files(self._connection, self._contract.name)
            self._needs_full_refresh = True
            self._warnings.append(f"{path} is again what it was: what came since was taken out.")

    def _entry(self, source: Source) -> ledger.LandedFile | None:
        return next(
            (e for e in self._known if e.sha256 == source.sha256 and e.status != "replaced"), None
        )

    def _land_source(self, source: Source) -> None:
        if source.format == "parquet":
            self._land_rows(source, read_parquet(self._connection, source))
            return
        shape = read_csv_shape(source, self._chosen)
        if shape is None:
            self._land_nothing(source)
            return
        is_plain = codecs.lookup(self._chosen.encoding).name == "utf-8"
        if is_plain and source.count_records is not None:
            rows = read_csv_fast(self._connection, source, shape)
            if self._land_rows(source, rows, is_last_try=False):
                return
        with read_csv_carefully(self._connection, source, shape, self._chosen) as rows:
            self._land_rows(source, rows)

    def _land_rows(self, source: Source, rows: Rows, is_last_try: bool = True) -> bool:
        """Land what a reader yields.

        Returns
        -------
        bool
            False when the reader failed or found another number of rows than there are, and
            another reader is to be tried.
        """
        contract, chosen = self._contract, self._chosen
        columns = list(rows.columns)
        mapping = map_columns(contract, chosen, columns, source.path)
        parser = Parser(chosen, self._settings.project.time_zone, self._received_at)
        judge = Judge(contract, chosen, parser, self._settings.project.reporting_currency)
        delivery = self._deliver(source, tuple(mapping.expressions))
        had = {c for e in self._known if e.settings_hash == self._hash for c in e.columns}
        delivery.notices.extend(compare_columns(contract, source.path, mapping, columns, had))
        parts = judge.judge(self._connection, rows, mapping, source.path)
        try:
            self._post(delivery, parts, rows)
        except UnreadError as error:
            if not is_last_try:
                return False
            if isinstance(error.__cause__, duckdb.Error):
                raise explain_unread(
                    self._connection, contract.name, source, rows, error.__cause__
                ) from error
            raise
        finally:
            rows.close()
        return True

    def _land_nothing(self, source: Source) -> None:
        notice = Notice("empty_file", f"{source.path} is empty: it has not even a header.")
        delivery = self._deliver(source, ())
        delivery.notices.append(notice)
        self._post(delivery, (), Rows({}, 0, ()))

    def _post(self, delivery: Delivery, parts: Iterable[str], rows: Rows) -> None:
        told = self._pace.count(parts, delivery, rows.count)
        totals = self._poster.post(delivery, told, rows.count, is_numbered=rows.is_numbered)
        self._known = ledger.landed_files(self._connection, self._contract.name)
        self._new[delivery.file_id] = delivery.source.path
        self._totals += totals
        self._warnings += [notice.message for notice in delivery.notices]
        self._progress(
            f"{self._contract.name}: {delivery.source.path}: {totals.count_in:,} rows, "
            f"{totals.count_quarantined:,} of them quarantined"
        )

    def _deliver(self, source: Source, columns: tuple[str, ...]) -> Delivery:
        """Decide under which number a source lands and which landed files it replaces."""
        again = self._entry(source)
        if again is not None:
            self._needs_full_refresh = True
            return Delivery(source, again.file_id, self._hash, columns)
        file_id = ledger.next_file_id(self._connection)
        before = [e for e in self._known if e.path == source.path and e.status != "replaced"]
        if not before:
            return Delivery(source, file_id, self._hash, columns)
        damaged = tuple(e.file_id for e in before if e.status == "quarantined")
        landed = tuple(e.file_id for e in before if e.status == "landed")
        notices = []
        if landed:
            manner = self._manner_of_change(source, columns)
            outcome = "its rows were added, newer versions of orders win"
            if manner == "replace":
                self._needs_full_refresh = True
                outcome = "its rows took the place of the earlier ones"
                damaged += landed
            notices = [
                Notice("changed_file", f"{source.path} changed since it was landed: {outcome}.")
            ]
        return Delivery(source, file_id, self._hash, columns, damaged, notices)

    def _manner_of_change(self, source: Source, columns: Sequence[str]) -> str:
        name = self._contract.name
        manner = self._chosen.when_changed
        if manner is None and source.format == "table":
            manner = "replace"
        if manner is None and (name in _KEYED_INPUTS or "transaction_id" in columns):
            manner = "add"
        if manner in ("add", "replace"):
            return manner
        raise LandingError(
            f"{source.path} was landed before and has other content now. Its rows have no key, so "
            "those that are in both would count twice. Deliver new rows in files of their own, "
            + ("map transaction_id, " if name == "transactions" else "")
            + f'or set when_changed under [inputs.{name}] in clv.toml: "replace" where a file '
            'always holds everything, "add" where it holds new rows alone.'
        )

    def _set_aside(self, file: Path, error: DamagedFileError) -> None:
        """Stop for a damaged file of a required input; quarantine that of another."""
        if self._contract.required:
            raise error
        state = file.stat()
        path = name_below(self._settings.root, file)
        source = Source(file, path, "csv", hash_file(file), state.st_size, state.st_mtime_ns)
        self._warnings.append(f"{error} The file was set aside; the run goes on without it.")
        self._count_damaged += 1
        entry = self._entry(source)
        if entry is not None and entry.settings_hash == self._hash:
            return
        delivery = self._deliver(source, ())
        self._poster.set_aside(delivery, str(error))
        self._known = ledger.landed_files(self._connection, self._contract.name)

    def _warn_of_stale_files(self) -> None:
        for entry in self._known:
            if entry.status == "landed" and entry.settings_hash != self._hash:
                self._warnings.append(
                    f"{entry.path} was landed under earlier settings, and its file is gone: its "
                    "rows stay as they were read then."
                )
