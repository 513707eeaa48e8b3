"""Gate 'published', second part: does the online store answer what the warehouse says?"""

from __future__ import annotations

from data_quality.rules import Rule, Suite, each_row
from data_quality.suites.run import Run

TABLE = "clv.online_store"


def equality(run: Run, source: str) -> Suite:
    """Make the suite of a sample of customers, offline against online.

    Parameters
    ----------
    source
        View with answer, customer_id, differences and is_same.
    """
    return Suite(
        table=TABLE,
        source=source,
        rules=(
            Rule("sampled", "count(*)", "no customer could be compared", minimum=1),
            *(
                each_row(
                    "online_equals_offline",
                    f"is_same OR answer <> '{answer}'",
                    f"of a sample have other {words} than the warehouse",
                    column=answer.replace(" ", "_"),
                    what="answers",
                )
                for answer, words in (
                    ("features", "features online"),
                    ("values", "values online"),
                    ("fresh features", "features computed from their raw rows"),
                )
            ),
        ),
        key="customer_id || ': ' || differences",
        parameters=run.parameters,
    )
