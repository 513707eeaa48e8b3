"""``clv doctor``: can these data carry a model, and what would be missing?

The inputs are landed in a temporary home, so that examining changes nothing.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

import duckdb

from clv_pipeline.ingest.landing import Progress, land_inputs
from clv_pipeline.ingest.report import InputReport, LandingError, LandingReport, count_of
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff, backtest_folds, training_cutoffs
from clv_pipeline.warehouse import open_warehouse, quote_literal, read_row

Severity = Literal["ok", "warn", "stop"]

# Fewer buyers than this tell a model nothing; fewer than that make wide intervals.
FEWEST_BUYERS = 50
FEW_BUYERS = 1_000
SMALL_REPEAT_SHARE = 0.05
LARGE_GUEST_SHARE = 0.3
LARGE_REFUND_SHARE = 0.3
LARGE_CUSTOMER_SHARE = 0.2
# Orders are restated now and then, not most of them.
MANY_STAMPED = 0.2
_WITHOUT = {
    "users": "signup, country, device, acquisition source and consent",
    "events": "visits, page views, carts and days since the last visit",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was examined.

    Attributes
    ----------
    check
        What was examined.
    severity
        ``ok``; ``warn``, when results will be worse for it; ``stop``, when nothing can be trained.
    sentence
        What was found.
    remedy
        What to do; empty when nothing needs to be done.
    """

    check: str
    severity: Severity
    sentence: str
    remedy: str = ""


@dataclass(frozen=True)
class DoctorReport:
    """What was found, in the order in which it was examined."""

    findings: tuple[Finding, ...]

    @property
    def can_train(self) -> bool:
        """Whether nothing stops a training."""
        return all(finding.severity != "stop" for finding in self.findings)

    def severity(self, check: str) -> Severity:
        """Return how a check ended.

        Raises
        ------
        KeyError
            If there was no such check.
        """
        for finding in self.findings:
            if finding.check == check:
                return finding.severity
        raise KeyError(check)

    def __str__(self) -> str:
        lines = []
        for finding in self.findings:
            lines.append(f"{finding.severity:<5} {finding.sentence}")
            if finding.remedy:
                lines.append(f"      -> {finding.remedy}")
        warnings = sum(finding.severity == "warn" for finding in self.findings)
        if not self.can_train:
            lines.append("These data can't carry a model yet: see what says stop.")
        elif warnings:
            weak = count_of(warnings, "weakness", "weaknesses")
            lines.append(f"These data can carry a model, with {weak}.")
        else:
            lines.append("These data can carry a model.")
        return "\n".join(lines)


def examine(
    settings: Settings,
    cutoff: Cutoff | None = None,
    progress: Progress | None = None,
    received_at: datetime | None = None,
) -> DoctorReport:
    """Examine the inputs that the settings name.

    Parameters
    ----------
    settings
        Of the project. Its home is left alone.
    cutoff
        The day for which scores are wanted; freshness is judged against it where it is given.
    progress
        Called with a sentence per file.
    received_at
        When the files arrived: rows of after it are quarantined, as a run does.
    """
    with tempfile.TemporaryDirectory(prefix="clv-doctor-") as folder:
        project = settings.project.model_copy(update={"home": Path(folder)})
        elsewhere = settings.model_copy(update={"project": project})
        try:
            report = land_inputs(elsewhere, "doctor", None, progress, received_at)
        except LandingError as error:
            return DoctorReport((Finding("landing", "stop", str(error)),))
        with open_warehouse(elsewhere, read_only=True) as connection:
            facts = _facts(connection, settings)
    return DoctorReport(tuple(_findings(settings, report, facts, cutoff)))


@dataclass(frozen=True)
class _Facts:
    count_orders: int
    count_buyers: int
    count_repeat: int
    first_day: date | None
    last_day: date | None
    sum_refunds: float
    sum_orders: float
    largest_share: float
    has_costs: bool
    share_stamped: float
    share_superseded: float
    harmless: frozenset[str]


def _facts(connection: duckdb.DuckDBPyConnection, settings: Settings) -> _Facts:
    zone = quote_literal(settings.project.time_zone)
    day = f"CAST(timezone({zone}, timezone('UTC', ts)) AS DATE)"
    row: tuple[Any, ...] = read_row(
        connection,
        f"""
        WITH orders AS (SELECT *, {day} AS order_day FROM raw.transactions),
        buyers AS (
          SELECT user_id, count(DISTINCT order_day) AS days, count(*) AS lines
          FROM orders WHERE user_id IS NOT NULL AND NOT is_refund GROUP BY user_id
        ),
        stamped AS (
          SELECT count(DISTINCT ingested_at) > 1 AS is_stamped, sum(amount) AS amount,
            sum(amount) FILTER (ingested_at = newest) AS newest_amount
          FROM (
            SELECT *, max(ingested_at) OVER (PARTITION BY transaction_id, _file_id) AS newest
            FROM orders WHERE transaction_id IS NOT NULL AND NOT is_refund
          )
          GROUP BY transaction_id, _file_id HAVING count(*) > 1
        )
        SELECT
          (SELECT count(*) FROM orders),
          (SELECT count(*) FROM buyers),
          (SELECT count(*) FROM buyers WHERE days > 1),
          (SELECT min(order_day) FROM orders),
          (SELECT max(order_day) FROM orders),
          (SELECT coalesce(sum(abs(amount)) FILTER (is_refund), 0)::DOUBLE FROM orders),
          (SELECT coalesce(sum(amount) FILTER (NOT is_refund), 0)::DOUBLE FROM orders),
          (SELECT coalesce(max(lines) / sum(lines), 0)::DOUBLE FROM buyers),
          (SELECT coalesce(bool_or(variable_cost <> 0), false) FROM orders),
          (SELECT coalesce(avg(is_stamped::INTEGER), 0)::DOUBLE FROM stamped),
          coalesce(
            (SELECT sum(amount - newest_amount) FILTER (is_stamped)::DOUBLE FROM stamped)
            / (SELECT nullif(sum(amount) FILTER (NOT is_refund), 0)::DOUBLE FROM orders), 0
          )
        """,
    )
    harmless = connection.execute(
        "SELECT message FROM ops.landing_warnings WHERE kind = 'extra_column'"
    ).fetchall()
    figures: list[Any] = [*row, frozenset(message for (message,) in harmless)]
    return _Facts(*figures)


def _stamped(facts: _Facts) -> Finding:
    return Finding(
        "stamped_lines",
        "warn",
        f"Of {facts.share_stamped:.1%} of the orders with several lines in a file, the lines have "
        "different ingested_at: they count as versions, of which the newest alone holds, and "
        f"{facts.share_superseded:.1%} of the amounts are left out.",
        "Where these are lines of one order, map an ingested_at that all of them share, or none.",
    )


def _findings(
    settings: Settings, report: LandingReport, facts: _Facts, cutoff: Cutoff | None
) -> list[Finding]:
    transactions = report.inputs["transactions"]
    findings = [_rows(transactions), _quarantine(settings, report), _buyers(facts)]
    if facts.count_buyers:
        findings += [_repeat(facts), _largest(facts)]
    findings += [_guests(transactions), _refunds(facts)]
    if facts.share_stamped > MANY_STAMPED and settings.inputs["transactions"].grain == "line":
        findings.append(_stamped(facts))
    findings += _history(settings, facts)
    if cutoff is not None and facts.last_day is not None:
        findings.append(_freshness(settings, facts.last_day, cutoff))
    if settings.value.definition == "contribution_margin" and not facts.has_costs:
        findings.append(
            Finding(
                "costs",
                "warn",
                "Value is the contribution margin, but no row has a variable_cost.",
                'Map variable_cost, or set definition = "net_revenue".',
            )
        )
    for name, features in _WITHOUT.items():
        if not report.inputs[name].landed.count_kept:
            findings.append(
                Finding(
                    name, "ok", f"Without the input {name} there are no features of {features}."
                )
            )
    findings += [
        Finding("warning", "ok" if sentence in facts.harmless else "warn", sentence)
        for sentence in report.warnings
    ]
    return findings


def _rows(transactions: InputReport) -> Finding:
    severity: Severity = "ok" if transactions.landed.count_kept else "stop"
    return Finding("rows", severity, transactions.sentence)


def _quarantine(settings: Settings, report: LandingReport) -> Finding:
    worst, name = max(
        (
            (part.landed.count_quarantined / part.landed.count_in, name)
            for name, part in report.inputs.items()
            if part.landed.count_in
        ),
        default=(0.0, "transactions"),
    )
    limit = settings.gates.max_quarantine_share
    reasons = list(report.inputs[name].reasons)[:3]
    sentence = f"At most {worst:.1%} of the rows of an input are quarantined ({name})."
    if worst <= limit:
        return Finding("quarantine", "ok", sentence)
    return Finding(
        "quarantine",
        "warn",
        f"{sentence[:-1]}; the gate stops a run above {limit:.1%}.",
        f"Most frequent: {'; '.join(reasons)}. Correct [inputs.{name}] in clv.toml, or raise "
        "gates.max_quarantine_share where this is as it should be.",
    )


def _buyers(facts: _Facts) -> Finding:
    sentence = f"{count_of(facts.count_buyers, 'customer has', 'customers have')} bought."
    if facts.count_buyers < FEWEST_BUYERS:
        return Finding("buyers", "stop", sentence, f"A model needs at least {FEWEST_BUYERS:,}.")
    if facts.count_buyers < FEW_BUYERS:
        return Finding(
            "buyers", "warn", sentence, f"Below {FEW_BUYERS:,}, figures and intervals are rough."
        )
    return Finding("buyers", "ok", sentence)


def _repeat(facts: _Facts) -> Finding:
    share = facts.count_repeat / facts.count_buyers
    sentence = f"{share:.1%} of them bought on more than one day."
    if not facts.count_repeat:
        return Finding(
            "repeat",
            "stop",
            sentence,
            "Nobody came back: check that user_id is the person and not the order.",
        )
    if share < SMALL_REPEAT_SHARE:
        return Finding(
            "repeat",
            "warn",
            sentence,
            "So little repeat business is hard to predict; check that user_id is the person.",
        )
    return Finding("repeat", "ok", sentence)


def _largest(facts: _Facts) -> Finding:
    sentence = f"The customer with most order lines has {facts.largest_share:.1%} of all."
    if facts.largest_share <= LARGE_CUSTOMER_SHARE or facts.count_buyers < FEWEST_BUYERS:
        return Finding("largest_customer", "ok", sentence)
    return Finding(
        "largest_customer",
        "warn",
        sentence,
        "Is that user_id a placeholder for guests, such as 0 or NULL? Map it to an empty one: "
        "user_id = { sql = \"nullif(column, '0')\" }.",
    )


def _guests(transactions: InputReport) -> Finding:
    landed = transactions.landed
    share = landed.count_guest / max(landed.count_kept, 1)
    value = float(landed.sum_guest / landed.sum_kept) if landed.sum_kept else 0.0
    sentence = f"{share:.1%} of the rows, with {value:.1%} of the amounts, have no customer."
    if share <= LARGE_GUEST_SHARE:
        return Finding("guests", "ok", sentence)
    return Finding(
        "guests", "warn", sentence, "Guests get no forecast: link them to accounts where you can."
    )


def _refunds(facts: _Facts) -> Finding:
    share = facts.sum_refunds / facts.sum_orders if facts.sum_orders else 0.0
    sentence = f"Refunds are {share:.1%} of what was ordered."
    if share <= LARGE_REFUND_SHARE:
        return Finding("refunds", "ok", sentence)
    return Finding("refunds", "warn", sentence, "Check how refunds are marked: map is_refund.")


def _history(settings: Settings, facts: _Facts) -> list[Finding]:
    if facts.first_day is None or facts.last_day is None:
        return [Finding("history", "stop", "There is no order.")]
    days = (facts.last_day - facts.first_day).days + 1
    as_of, cadence = Cutoff(facts.last_day), settings.cadence
    findings = []
    counts = {}
    for horizon in settings.value.horizons:
        cutoffs = training_cutoffs(
            as_of,
            horizon,
            first_day=facts.first_day,
            step_days=cadence.training_step_days,
            count=cadence.training_cutoffs,
            min_history_days=cadence.min_history_days,
        )
        folds = backtest_folds(
            as_of,
            horizon,
            first_day=facts.first_day,
            step_days=cadence.training_step_days,
            count=cadence.training_cutoffs,
            min_history_days=cadence.min_history_days,
            folds=cadence.backtest_folds,
            fold_step_days=cadence.training_step_days,
        )
        counts[horizon] = len(cutoffs)
        sentence = (
            f"{horizon} days ahead: {len(cutoffs)} cutoffs can train and {len(folds)} can evaluate."
        )
        if not cutoffs:
            remedy = (
                f"That takes {cadence.min_history_days + horizon} days of history: take the "
                "horizon out of value.horizons, or wait."
            )
            findings.append(Finding(f"horizon_{horizon}", "warn", sentence, remedy))
        elif not folds:
            remedy = (
                f"An honest test takes {cadence.min_history_days + 2 * horizon} days; until then "
                "figures of this horizon are not compared with what happened."
            )
            findings.append(Finding(f"horizon_{horizon}", "warn", sentence, remedy))
        else:
            findings.append(Finding(f"horizon_{horizon}", "ok", sentence))
    can_train = any(counts.values())
    head = Finding(
        "history",
        "ok" if can_train else "stop",
        f"Orders cover {count_of(days, 'day')}, from {facts.first_day} to {facts.last_day}.",
        "" if can_train else "No horizon can be trained: shorten horizons or min_history_days.",
    )
    return [head, *findings]


def _freshness(settings: Settings, last_day: date, cutoff: Cutoff) -> Finding:
    age = (cutoff.day - last_day).days
    limit = settings.gates.max_staleness_days
    sentence = f"The last order is {age:,} days older than the cutoff {cutoff}."
    if age <= 0:
        return Finding("freshness", "ok", f"Orders reach the cutoff {cutoff}.")
    if age <= limit:
        return Finding("freshness", "ok", sentence)
    return Finding(
        "freshness",
        "warn",
        f"{sentence[:-1]}; the gate stops a run above {limit}.",
        "Deliver the missing files, or ask for an earlier cutoff.",
    )
