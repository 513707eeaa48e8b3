"""From judged rows to the warehouse: a file's rows, quarantine, warnings and ledger at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

import duckdb

from clv_pipeline.ingest import fingerprints, lacking_rates, ledger
from clv_pipeline.ingest.contract import Contract
from clv_pipeline.ingest.merges import refuse_cycle
from clv_pipeline.ingest.report import LandingError, Notice, Totals, UnreadError
from clv_pipeline.ingest.restated import count_restated_orders
from clv_pipeline.ingest.sources import Source
from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import quote_identifier, read_row

_SHOWN_VALUES = 10
# Of each part of a source, so many unknown values are counted.
_COUNTED_VALUES = 1_000


@dataclass(frozen=True)
class Delivery:
    """One source on its way into the warehouse.

    Attributes
    ----------
    file_id
        Its number in the ledger.
    replaces
        Numbers of the landed files whose rows give way to it.
    columns
        The contract's columns that it has.
    """

    source: Source
    file_id: int
    settings_hash: str
    columns: Sequence[str] = ()
    replaces: tuple[int, ...] = ()
    notices: list[Notice] = field(default_factory=list)


class Poster:
    """Writes deliveries of one input.

    Parameters
    ----------
    connection
        To the warehouse.
    settings
        Of the project.
    contract
        Of the input.
    run_id
        The run that lands.
    landed_at
        What the ledger says of when; nothing is computed from it.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        settings: Settings,
        contract: Contract,
        run_id: str,
        landed_at: datetime,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._contract = contract
        self._run_id = run_id
        self._landed_at = landed_at.astimezone(UTC).replace(tzinfo=None)
        self._target = f"raw.{quote_identifier(contract.name)}"

    def post(
        self,
        delivery: Delivery,
        parts: Iterable[str],
        count: int | None = None,
        *,
        is_numbered: bool = True,
    ) -> Totals:
        """Write a source's rows and all that is said of them, in one transaction.

        Parameters
        ----------
        parts
            Queries for judged rows, from `Judge.judge`.
        count
            Rows there must be, where that is known.
        is_numbered
            Whether the rows of a part may be read in whatever order.

        Raises
        ------
        UnreadError
            If a part can't be read, or if there are other rows than there must be.
        LandingError
            If rows or amounts got lost, or if account merges run in a circle; nothing is written.
        """
        connection = self._connection
        found, unknown = Totals(), dict[str, Counter[str]]()
        try:
            with self._transaction():
                self._make_room(delivery)
                # In order, threads would leave parts of row groups behind, to be joined later.
                connection.execute(f"SET preserve_insertion_order = {not is_numbered}")
                found = self._insert_parts(delivery, parts, unknown)
                if count is not None and found.count_in != count:
                    raise UnreadError(
                        f"{delivery.source.path} says that it has {count:,} rows, but "
                        f"{found.count_in:,} could be read. Nothing of it was landed; deliver it "
                        "again."
                    )
                if self._contract.name == "transactions":
                    found += self._set_lacking_rates_apart(delivery)
                self._note_unknown_values(delivery, unknown)
                totals = self._check_totals(delivery, found)
                if self._contract.name == "account_merges":
                    refuse_cycle(connection, delivery.source.path)
                delivery.source.check_unchanged()
                self._write_entry(delivery, totals, "landed")
        finally:
            connection.execute("RESET preserve_insertion_order")
        return totals

    def set_aside(self, delivery: Delivery, reason: str) -> None:
        """Put a file that can't be read into the quarantine as a whole; it counts no rows."""
        with self._transaction():
            self._make_room(delivery)
            self._connection.execute(
                "INSERT INTO ops.quarantine VALUES (?, ?, ?, NULL, NULL, ?, NULL, ?, ?)",
                [
                    self._contract.name,
                    delivery.file_id,
                    delivery.source.path,
                    reason,
                    self._landed_at,
                    self._run_id,
                ],
            )
            self._write_entry(delivery, Totals(), "quarantined")

    def take_out(self, file_ids: Iterable[int]) -> None:
        """Drop the rows of landed files that others have taken the place of."""
        with self._transaction():
            self._replace(file_ids)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.begin()
        try:
            yield
            self._connection.commit()
        except BaseException:
            self._connection.rollback()
            raise

    def warn(self, file_id: int | None, path: str, notices: Iterable[Notice]) -> None:
        """Write warnings that are not written yet."""
        for notice in notices:
            values = [self._contract.name, file_id, path, notice.kind, notice.message]
            self._connection.execute(
                "INSERT INTO ops.landing_warnings SELECT ?, ?, ?, ?, ?, ? WHERE NOT EXISTS ("
                "SELECT 1 FROM ops.landing_warnings WHERE input = ? "
                "AND file_id IS NOT DISTINCT FROM ? AND path = ? AND kind = ? AND message = ?)",
                [*values, self._run_id, *values],
            )

    def count_reasons(self, file_ids: Sequence[int]) -> dict[str, int]:
        """Count the quarantined rows of files per reason, most frequent first."""
        return dict(
            self._connection.execute(
                "SELECT reason, count(*) FROM ops.quarantine WHERE input = ? "
                "AND list_contains(?::BIGINT[], file_id) AND row_number IS NOT NULL "
                "GROUP BY reason ORDER BY count(*) DESC, reason",
                [self._contract.name, list(file_ids)],
            ).fetchall()
        )

    @property
    def _grain(self) -> str:
        return self._settings.inputs["transactions"].grain

    def _make_room(self, delivery: Delivery) -> None:
        ledger.forget_rows(self._connection, self._contract.name, delivery.file_id)
        self._replace(delivery.replaces)

    def _replace(self, file_ids: Iterable[int]) -> None:
        for file_id in file_ids:
            ledger.forget_rows(self._connection, self._contract.name, file_id)
            ledger.mark_replaced(self._connection, file_id)

    def _insert_parts(
        self, delivery: Delivery, parts: Iterable[str], unknown: dict[str, Counter[str]]
    ) -> Totals:
        found = Totals()
        try:
            for part in parts:
                found += self._insert_part(delivery, part)
                for column in (f.name for f in self._contract.fields if f.values):
                    unknown.setdefault(column, Counter()).update(self._unknown_values(part, column))
        except (duckdb.OutOfMemoryException, duckdb.InterruptException):
            raise
        except duckdb.Error as error:
            raise UnreadError(f"{delivery.source.path} can't be read: {error}") from error
        return found

    def _insert_part(self, delivery: Delivery, part: str) -> Totals:
        connection = self._connection
        amount = "amount" if self._contract.name == "transactions" else "0"
        # Counted apart from what is written, so that the one is held to the other.
        count, total = read_row(connection, f"SELECT count(*), sum({amount}) FROM ({part})")
        names = [name for name in ledger.raw_columns(self._contract) if not name.startswith("_")]
        listed = ", ".join(map(quote_identifier, names))
        targets, values = f"{listed}, _file_id, _row_number", f"{listed}, ?, _clv_row"
        if self._contract.name == "transactions":
            targets += f", {fingerprints.COLUMN}"
            values += ", raw.fingerprint_order(transaction_id)"
        (count_kept,) = read_row(
            connection,
            f"INSERT INTO {self._target} ({targets}) "
            f"SELECT {values} FROM ({part}) WHERE _clv_reason IS NULL",
            [delivery.file_id],
        )
        rejected = 0
        if count_kept < count:
            self._quarantine(
                delivery,
                "_clv_row, _clv_column, _clv_reason, _clv_record",
                f"({part}) WHERE _clv_reason IS NOT NULL",
            )
            (rejected,) = read_row(
                connection, f"SELECT sum({amount}) FROM ({part}) WHERE _clv_reason IS NOT NULL"
            )
        return Totals(
            count_in=count, sum_in=Decimal(total or 0), sum_quarantined=Decimal(rejected or 0)
        )

    def _quarantine(self, delivery: Delivery, columns: str, rows: str) -> None:
        name, path = self._contract.name, delivery.source.path
        self._connection.execute(
            f"INSERT INTO ops.quarantine SELECT ?, ?, ?, {columns}, ?, ? FROM {rows}",
            [name, delivery.file_id, path, self._landed_at, self._run_id],
        )

    def _set_lacking_rates_apart(self, delivery: Delivery) -> Totals:
        lacking = lacking_rates.look_for(self._connection, self._settings, delivery.file_id)
        if lacking is None:
            return Totals()
        self._quarantine(delivery, lacking.columns, lacking.rows)
        self._connection.execute(f"DELETE FROM {lacking.rows}")
        path = delivery.source.path
        delivery.notices.append(Notice("no_rate", f"{path}: {lacking.sentence}"))
        return Totals(sum_quarantined=lacking.sum_amount)

    def _unknown_values(self, part: str, column: str) -> dict[str, int]:
        unknown = quote_identifier(f"_clv_unknown_{column}")
        return dict(
            self._connection.execute(
                f"SELECT {unknown}, count(*) FROM ({part}) WHERE _clv_reason IS NULL "
                f"AND {unknown} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {_COUNTED_VALUES}"
            ).fetchall()
        )

    def _note_unknown_values(self, delivery: Delivery, unknown: Mapping[str, Counter[str]]) -> None:
        for column, counts in unknown.items():
            found = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN_VALUES]
            if found:
                shown = ", ".join(f"'{value[:60]}' ({count:,} rows)" for value, count in found)
                delivery.notices.append(
                    Notice(
                        "unknown_value",
                        f"{delivery.source.path}: {column} has values that are not known, which "
                        f"count as 'unknown': {shown}.",
                    )
                )

    def note_restated_orders(self, landed: Mapping[int, str]) -> list[Notice]:
        """Say of each file that this run has landed how many of its orders came otherwise, too.

        Parameters
        ----------
        landed
            Path of each of these files, by its number.
        """
        if self._contract.name != "transactions" or not landed:
            return []
        notices = []
        counted = count_restated_orders(self._connection, list(landed), self._grain)
        for file_id, count in sorted(counted.items()):
            path = landed[file_id]
            notice = Notice(
                "restated_order",
                f"{path}: {count:,} of its orders were delivered with other content too. The "
                "newest version counts, by ingested_at and then by file; staging.stg_transactions "
                "keeps the others with the days they were true.",
            )
            self.warn(file_id, path, [notice])
            notices.append(notice)
        return notices

    def _check_totals(self, delivery: Delivery, found: Totals) -> Totals:
        """Hold what came in to what is in the warehouse now."""
        connection = self._connection
        has_money = self._contract.name == "transactions"
        amount = "amount" if has_money else "0"
        guest = "user_id IS NULL" if has_money else "false"
        kept = read_row(
            connection,
            f"SELECT count(*), count(*) FILTER ({guest}), sum({amount}), "
            f"sum({amount}) FILTER ({guest}) FROM {self._target} WHERE _file_id = ?",
            [delivery.file_id],
        )
        (quarantined,) = read_row(
            connection,
            "SELECT count(*) FROM ops.quarantine WHERE input = ? AND file_id = ?",
            [self._contract.name, delivery.file_id],
        )
        totals = Totals(
            count_in=found.count_in,
            count_kept=kept[0],
            count_guest=kept[1],
            count_quarantined=quarantined,
            sum_in=found.sum_in,
            sum_kept=Decimal(kept[2] or 0),
            sum_guest=Decimal(kept[3] or 0),
            sum_quarantined=found.sum_quarantined,
        )
        if not totals.is_balanced:
            raise LandingError(
                f"{delivery.source.path}: {totals.count_in:,} rows with {totals.sum_in} came in, "
                f"but {totals.count_kept:,} rows with {totals.sum_kept} were kept and "
                f"{totals.count_quarantined:,} rows with {totals.sum_quarantined} quarantined. "
                "Nothing of the file was landed. This is an error of the program: report it."
            )
        return totals

    def _write_entry(self, delivery: Delivery, totals: Totals, status: str) -> None:
        ledger.write_entry(
            self._connection,
            self._contract.name,
            delivery.source,
            delivery.file_id,
            landed_at=self._landed_at,
            run_id=self._run_id,
            totals=totals,
            status=status,
            settings_hash=delivery.settings_hash,
            columns=delivery.columns,
        )
        self.warn(delivery.file_id, delivery.source.path, delivery.notices)
