"""Gate 'features': each feature within its range, missing only where that means something, stable.

The rules come from the features' yml: to change one, change the feature's entry there.
"""

from __future__ import annotations

from collections.abc import Sequence

from clv_pipeline.features.registry import Feature
from clv_pipeline.warehouse import quote_identifier, quote_literal
from data_quality.rules import Rule, Suite, each_row
from data_quality.suites.run import Run

TABLE = "features.customer_features"
# Within so many days of each other two cutoffs see nearly the same past, so that most features
# moving at once is a fault; after longer gaps ages and sums move by themselves.
DAYS_OF_LITTLE_CHANGE = 7


def values(run: Run, features: Sequence[Feature]) -> Suite:
    """Make the suite of the values: in range, finite, and null only where null has a meaning."""
    return Suite(
        table=TABLE,
        source=f"(SELECT * FROM {TABLE} WHERE cutoff_date = $cutoff)",
        rules=(
            Rule("volume", "count(*)", "nobody has features at the cutoff", minimum=1),
            *(_value_rule(feature) for feature in features),
        ),
        key="customer_id",
        needs=(TABLE,),
        parameters=run.parameters,
    )


def drift(run: Run, features: Sequence[Feature], source: str, gap_days: int | None) -> Suite:
    """Make the suite of drift.

    Parameters
    ----------
    source
        View with feature, psi and is_collapsed; empty without an earlier good run.
    gap_days
        Days since the cutoff of the run that is compared with.
    """
    limit = run.settings.gates.max_feature_psi
    nothing = "there is no earlier good run to compare with, or too few customers"
    rules = [
        Rule(
            "drift",
            f"max(psi) FILTER (WHERE feature = {quote_literal(feature.name)})",
            f"the population stability index of {feature.name} against the last good run is "
            "{observed}, usual is {expected}",
            column=feature.name,
            maximum=limit,
            severity="warn",
            if_nothing=nothing,
        )
        for feature in features
        if not feature.is_of_calendar
    ]
    is_near = gap_days is not None and gap_days <= DAYS_OF_LITTLE_CHANGE
    return Suite(
        table=TABLE,
        source=source,
        rules=(
            *rules,
            Rule(
                "drifted_share",
                f"avg((psi > {limit!r} OR is_collapsed)::INTEGER)",
                "{observed} of the features have drifted since the last good run, allowed is "
                "{expected}",
                maximum=run.settings.gates.max_drifted_share,
                severity="stop" if is_near else "warn",
                if_nothing=nothing,
            ),
            Rule(
                "collapsed",
                "CASE WHEN count(*) > 0 THEN count(*) FILTER (WHERE is_collapsed) END",
                "{observed} of {checked} features are in a single one of the last good run's bins "
                "for everybody now",
                maximum=0,
                severity="warn",
                breaks="is_collapsed",
                if_nothing=nothing,
            ),
        ),
        key="feature",
        is_key_personal=False,
        parameters=run.parameters,
    )


def health(run: Run, source: str) -> Suite:
    """Make the suite of the features' health against the champion's training set.

    Parameters
    ----------
    source
        View with the columns of ``ops.feature_health``.
    """
    gates = run.settings.gates
    moved = f"psi_training > {gates.max_training_psi!r}"
    missing = f"null_share - training_null_share > {gates.max_null_rise!r}"
    stale = f"age_days > {gates.max_feature_age_days}"
    nothing = "there is no champion whose training set could be compared with"
    return Suite(
        table=TABLE,
        source=source,
        rules=(
            Rule(
                "training_drift",
                f"avg(({moved})::INTEGER)",
                "{observed} of the features have moved away from what the champion was trained on, "
                "allowed is {expected}",
                maximum=gates.max_training_drift_share,
                severity=gates.feature_health,
                breaks=moved,
                if_nothing=nothing,
            ),
            Rule(
                "missing_more",
                f"CASE WHEN count(psi_training) > 0 THEN count(*) FILTER (WHERE {missing}) END",
                "{observed} of {checked} features are missing more often than when the champion "
                f"was trained, by more than {gates.max_null_rise:g} of the customers",
                maximum=0,
                severity=gates.feature_health,
                breaks=missing,
                if_nothing=nothing,
            ),
            Rule(
                "stale",
                f"CASE WHEN count(age_days) > 0 THEN count(*) FILTER (WHERE {stale}) END",
                "{observed} of {checked} features are made from an input whose newest row is older "
                f"than {gates.max_feature_age_days} days",
                maximum=0,
                severity=gates.feature_health,
                breaks=stale,
                if_nothing="no input has a row",
            ),
        ),
        key="feature",
        is_key_personal=False,
        parameters=run.parameters,
    )


def _value_rule(feature: Feature) -> Rule:
    column = quote_identifier(feature.name)
    conditions = [f"{column} IS NOT NULL"]
    words = []
    if feature.kind == "numeric":
        conditions.append(f"isfinite({column}::DOUBLE)")
        if feature.minimum is not None:
            conditions.append(f"{column} >= {float(feature.minimum)!r}")
            words.append(f"below {feature.minimum:g}")
        if feature.maximum is not None:
            conditions.append(f"{column} <= {float(feature.maximum)!r}")
            words.append(f"above {feature.maximum:g}")
        words.append("not finite")
    if not feature.null_meaning:
        words.append("missing")
    holds = " AND ".join(conditions)
    if feature.null_meaning:
        holds = f"{column} IS NULL OR ({holds})"
    return each_row(
        "in_range", holds, f"have a {feature.name} that is {' or '.join(words)}", feature.name
    )
