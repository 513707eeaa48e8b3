"""What landing says of itself: one frozen report per input, and the error that stops it."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

ZERO = Decimal("0.0000")


class LandingError(RuntimeError):
    """An input can't be landed; the message names file and place and says what to do."""


class UnreadError(LandingError):
    """A reader could not read a source to its end, or counted other rows than there are."""


@dataclass(frozen=True)
class Notice:
    """Something about a file that an owner of the data should know.

    Attributes
    ----------
    kind
        ``extra_column``, ``missing_column``, ``unknown_value``, ``changed_file``,
        ``duplicate_file``, ``damaged_file``, ``empty_file``, ``no_rate``, ``restated_order``.
    message
        A sentence.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class Totals:
    """Rows and amounts that were read, and what became of them.

    Amounts are those of transactions in their own currencies, as far as they can be read.

    Attributes
    ----------
    count_in, count_kept, count_quarantined
        Rows; ``count_in`` = ``count_kept`` + ``count_quarantined``.
    count_guest
        Kept rows without a customer.
    sum_in, sum_kept, sum_guest, sum_quarantined
        Their amounts, likewise.
    """

    count_in: int = 0
    count_kept: int = 0
    count_guest: int = 0
    count_quarantined: int = 0
    sum_in: Decimal = ZERO
    sum_kept: Decimal = ZERO
    sum_guest: Decimal = ZERO
    sum_quarantined: Decimal = ZERO

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.count_in + other.count_in,
            self.count_kept + other.count_kept,
            self.count_guest + other.count_guest,
            self.count_quarantined + other.count_quarantined,
            self.sum_in + other.sum_in,
            self.sum_kept + other.sum_kept,
            self.sum_guest + other.sum_guest,
            self.sum_quarantined + other.sum_quarantined,
        )

    @property
    def is_balanced(self) -> bool:
        """Whether nothing was lost: what came in was kept or quarantined, to the last digit."""
        return (
            self.count_in == self.count_kept + self.count_quarantined
            and self.sum_in == self.sum_kept + self.sum_quarantined
        )


@dataclass(frozen=True)
class InputReport:
    """What landing one input did.

    Attributes
    ----------
    input
        Its name.
    files_seen, files_new, files_skipped, files_quarantined
        Files found; landed now; skipped because their content had been landed before; set aside as
        a whole because they are damaged.
    new
        Totals of the files landed now.
    landed
        Totals of all that is landed, now and before.
    reasons
        Rows quarantined now, per reason, most frequent first.
    warnings
        Sentences.
    needs_full_refresh
        Whether rows landed earlier were replaced, so that tables built from them piece by piece
        must be built anew.
    """

    input: str
    files_seen: int = 0
    files_new: int = 0
    files_skipped: int = 0
    files_quarantined: int = 0
    new: Totals = field(default_factory=Totals)
    landed: Totals = field(default_factory=Totals)
    reasons: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    needs_full_refresh: bool = False

    @property
    def sentence(self) -> str:
        """What happened, in a sentence or two."""
        if not self.files_seen:
            return f"{self.input}: no file."
        parts = [
            f"{self.input}: {count_of(self.files_seen, 'file')} seen, {self.files_new:,} new, "
            f"{self.files_skipped:,} already landed"
        ]
        if self.files_quarantined:
            parts.append(f", {self.files_quarantined:,} set aside as damaged")
        new = self.new
        if self.files_new:
            parts.append(
                f"; {new.count_in:,} rows in = {new.count_kept:,} kept"
                + (f" ({new.count_guest:,} of guests)" if new.count_guest else "")
                + f" + {new.count_quarantined:,} quarantined"
            )
            if new.sum_in:
                parts.append(
                    f"; amounts {_money(new.sum_in)} in = {_money(new.sum_kept)} kept"
                    + (f" ({_money(new.sum_guest)} of guests)" if new.sum_guest else "")
                    + f" + {_money(new.sum_quarantined)} quarantined"
                )
        if self.reasons:
            shown = list(self.reasons.items())[:5]
            parts.append(". Quarantined: " + "; ".join(f"{n:,} x {why}" for why, n in shown))
            if len(self.reasons) > len(shown):
                parts.append(f"; and {len(self.reasons) - len(shown)} further reasons")
        return "".join(parts) + "."


@dataclass(frozen=True)
class LandingReport:
    """What landing all inputs did.

    Attributes
    ----------
    run_id
        The run that landed.
    inputs
        One report per input, in the order of landing.
    """

    run_id: str
    inputs: dict[str, InputReport]

    @property
    def needs_full_refresh(self) -> bool:
        """Whether rows landed earlier were replaced (see :class:`InputReport`)."""
        return any(report.needs_full_refresh for report in self.inputs.values())

    @property
    def has_new_rows(self) -> bool:
        """Whether any row was kept now."""
        return any(report.new.count_kept for report in self.inputs.values())

    @property
    def warnings(self) -> tuple[str, ...]:
        """Every warning, in the order of landing."""
        return tuple(text for report in self.inputs.values() for text in report.warnings)

    @property
    def sentence(self) -> str:
        """One line per input that has files."""
        lines = [report.sentence for report in self.inputs.values() if report.files_seen]
        return "\n".join(lines) or "No input has any file."


def count_of(number: int, noun: str, many: str | None = None) -> str:
    """Return a number with its noun, in the plural where it is not one."""
    return f"{number:,} {noun if number == 1 else many or f'{noun}s'}"


def _money(amount: Decimal) -> str:
    return f"{amount:,.2f}"
