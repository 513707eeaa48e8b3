"""For any delivery: rows in = kept + quarantined, every text arrives, and no penny is lost."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.ingest.conftest import HEADER, Shop

# Anything that a CSV file in UTF-8 can hold. NUL is left out: Python's csv module refuses it.
characters = st.characters(exclude_categories=("Cs",), exclude_characters="\0")
texts = st.text(characters, max_size=12) | st.sampled_from(
    [
        ",",
        '"',
        '""',
        "\n",
        "\r",
        "\r\n",
        ";",
        "'",
        "\\",
        " ",
        "\ufeff",
        "NULL",
        "nan",
        "#",
        "x" * 10_000,
    ]
)
cents = st.integers(-(10**9), 10**9)
amounts = cents.map(lambda number: f"{Decimal(number) / 100:.2f}")
days = st.dates().map(str)
# Each example is a landing or two, so that shrinking one would take minutes.
few = settings(
    max_examples=20,
    phases=(Phase.explicit, Phase.generate),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
BLANK = " \t\r\n\f\v\u00a0\u202f\ufeff"


def write_row(fields: Sequence[str]) -> str:
    """Python's own writer leaves a lone carriage return unquoted."""
    is_special = [bool(set(field) & set('",\r\n;\t|')) for field in fields]
    quoted = ['"' + field.replace('"', '""') + '"' for field in fields]
    return ",".join(q if s else f for f, q, s in zip(fields, quoted, is_special, strict=True))


def strip(text: str) -> str | None:
    return text.strip(BLANK) or None


@few
@given(st.lists(st.tuples(texts, texts, texts | days, texts | amounts), max_size=20))
def test_arbitrary_fields(rows: list[tuple[str, str, str, str]]) -> None:
    # A line without any field but blank ones is no line that a shop would write.
    rows = [row for row in rows if any(row)]
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Path(folder))
        shop.write("a.csv", "\n".join(map(write_row, [HEADER, *rows])))
        shop.inputs["transactions"]["delimiter"] = ","
        report = shop.land_transactions()
        assert report.new.count_in == len(rows)
        kept = shop.query(
            "SELECT _row_number, transaction_id, user_id FROM raw.transactions ORDER BY 1"
        )
        for number, order, user in kept:
            assert (order, user) == (strip(rows[number - 1][0]), strip(rows[number - 1][1]))
        refused = shop.query("SELECT row_number, record_json FROM ops.quarantine ORDER BY 1")
        for number, record in refused:
            values = json.loads(record)
            found = tuple(values[name] or "" for name in HEADER)
            assert found == tuple(rows[number - 1])
        assert {n for n, *_ in kept} | {n for n, _ in refused} == set(range(1, len(rows) + 1))


@few
@given(
    st.lists(st.tuples(texts, texts, cents), max_size=30),
    st.lists(st.text(characters, max_size=30), max_size=5),
    st.randoms(use_true_random=False),
)
def test_totals_are_conserved_to_the_penny_whatever_stands_between(
    orders: list[tuple[str, str, int]], noise: list[str], draw: object
) -> None:
    """Lines of rubbish cost none of the good rows, as long as no quote stays open in them."""
    good = [write_row((o, u, "2024-05-05", f"{c / 100:.2f}")) + "\n" for o, u, c in orders]
    bad = [line.replace('"', "").replace("\r", "").replace("\n", "") + "\n" for line in noise]
    bad = [line for line in bad if line.count(",") != 3 and len(line.splitlines()) == 1]
    lines = good + bad
    draw.shuffle(lines)  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Path(folder))
        shop.write("a.csv", ",".join(HEADER) + "\n" + "".join(lines))
        shop.inputs["transactions"]["delimiter"] = ","
        report = shop.land_transactions()
        assert report.new.sum_kept == Decimal(sum(c for *_, c in orders)) / 100
        assert report.new.count_kept == len(orders)
        assert report.new.count_quarantined == len([line for line in bad if line.strip("\n")])
        guests = sum(c for _, u, c in orders if strip(u) is None)
        assert report.new.sum_guest == Decimal(guests) / 100
        assert shop.land_transactions().landed == report.landed


@few
@given(st.binary(max_size=300))
def test_any_bytes_either_land_or_are_refused_by_name(content: bytes) -> None:
    from clv_pipeline.ingest.report import LandingError

    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Path(folder))
        shop.write("a.csv", b"user_id,ts,amount\n" + content)
        try:
            report = shop.land_transactions()
        except LandingError as error:
            assert str(error).startswith("a.csv")
        else:
            assert report.new.is_balanced
