"""What the service is asked and what it answers; the columns of rows come from the contracts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, cast

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, create_model

from clv_pipeline.ingest.contract import CONTRACTS, Kind
from clv_pipeline.ingest.contract import Field as Column

MOST_IDS = 1_000
MOST_ROWS = 10_000
MOST_LETTERS = 10_000
# The account of a customer who has no id.
NEW_CUSTOMER = "new customer"

_Text = Annotated[str, Field(max_length=MOST_LETTERS)]
_Money = Annotated[Decimal, Field(allow_inf_nan=False, gt=-(10**13), lt=10**13)]
_Number = Annotated[float, Field(allow_inf_nan=False)]
_TYPES: dict[Kind, Any] = {
    "key": Annotated[str, Field(min_length=1, max_length=MOST_LETTERS, pattern=r"\S")],
    "text": _Text,
    "instant": datetime,
    "day": date,
    "money": _Money,
    "number": _Number,
    "flag": bool,
    "json": _Text,
}
_ARROW: dict[Kind, pa.DataType] = {
    "key": pa.string(),
    "text": pa.string(),
    "instant": pa.timestamp("us"),
    "day": pa.date32(),
    "money": pa.decimal128(18, 4),
    "number": pa.float64(),
    "flag": pa.bool_(),
    "json": pa.string(),
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _row_model(name: str, contract: str) -> type[BaseModel]:
    columns: dict[str, Any] = {}
    for column in CONTRACTS[contract].fields:
        if column.name == "user_id":
            continue
        is_optional = column.nullable and not column.required
        kind = _TYPES[column.kind]
        columns[column.name] = (
            (kind | None, Field(default=None, description=column.description))
            if is_optional
            else (kind, Field(description=column.description))
        )
    model = create_model(name, __base__=_Strict, __doc__=CONTRACTS[contract].description, **columns)
    return cast(type[BaseModel], model)


Order = _row_model("Order", "transactions")
Event = _row_model("Event", "events")
Exposure = _row_model("Exposure", "campaign_exposures")
Profile = _row_model("Profile", "users")


class PredictRequest(_Strict):
    """Everything that should count of one customer; nothing that is stored is added to it."""

    customer_id: Annotated[str, Field(min_length=1, max_length=MOST_LETTERS)] | None = Field(
        default=None, description="Who, where the shop knows; anyone otherwise."
    )
    as_of: date = Field(
        ge=date(1970, 1, 1),
        le=date(2999, 12, 31),
        description="Answer as of the end of this business day; what comes later does not count.",
    )
    orders: list[Order] = Field(  # type: ignore[valid-type]
        default=[], max_length=MOST_ROWS, description="Lines of orders and refunds."
    )
    profile: Profile | None = Field(  # type: ignore[valid-type]
        default=None, description="What is known of the person."
    )
    events: list[Event] = Field(  # type: ignore[valid-type]
        default=[], max_length=MOST_ROWS, description="What the person did on the site."
    )
    campaign_exposures: list[Exposure] = Field(  # type: ignore[valid-type]
        default=[], max_length=MOST_ROWS, description="Contacts of campaigns with the person."
    )

    @property
    def account(self) -> str:
        """The account that the rows are of."""
        return self.customer_id or NEW_CUSTOMER

    def tables(self) -> dict[str, pa.Table]:
        """Return the rows by raw table."""
        profile: list[BaseModel] = [] if self.profile is None else [self.profile]
        given: dict[str, Sequence[BaseModel]] = {
            "transactions": self.orders,
            "users": profile,
            "events": self.events,
            "campaign_exposures": self.campaign_exposures,
        }
        return {
            f"raw.{name}": _to_arrow(CONTRACTS[name].fields, self.account, rows)
            for name, rows in given.items()
            if rows
        }


class BatchRequest(_Strict):
    """Customers to look up at once."""

    ids: list[Annotated[str, Field(min_length=1, max_length=MOST_LETTERS)]] = Field(
        min_length=1, max_length=MOST_IDS
    )


class Publication(BaseModel):
    """Which publication answered; everything in an answer is of this one."""

    run_id: str
    cutoff_date: date = Field(description="What happened up to this day is counted.")
    model_version: str
    published_at: datetime


class HorizonValue(BaseModel):
    """What is expected over one horizon; further bounds as they are published.

    Of one customer read p10 to p90. low_80 to high_80 and low_95 to high_95 are right over many
    customers, not for each.
    """

    model_config = ConfigDict(extra="allow")

    horizon_days: int
    value: float = Field(description="Expected value, reporting currency.")
    p10: float
    p50: float
    p90: float
    probability: float = Field(description="Of at least one order.")
    orders: float = Field(description="Expected number of orders.")


class Reason(BaseModel):
    """A reason for the value over the longest horizon."""

    reason: str
    effect: float = Field(description="What it adds to the reference customer's value.")


class CustomerValue(Publication):
    """The latest value of a customer: the row of customer_clv."""

    model_config = ConfigDict(extra="allow")

    customer_id: str
    values: list[HorizonValue]
    reasons: list[Reason]
    segment: str | None = None
    value_tier: str | None = None
    confidence: str | None = None


class CustomerFeatures(Publication):
    """The features of a customer, as models read them."""

    customer_id: str
    features: dict[str, Any]


class BatchAnswer(Publication):
    """Several customers of one publication."""

    customers: list[dict[str, Any]]
    unknown: list[str] = Field(description="Ids that this publication does not hold.")


class PredictAnswer(Publication):
    """A prediction for the rows of the request."""

    customer_id: str | None
    as_of: date
    values: list[HorizonValue]
    reasons: list[Reason]
    base: float = Field(description="Value of the reference customer, whom effects start from.")
    features: dict[str, Any]


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str
    message: str


class BadRequest(BaseModel):
    """Which fields can't be used."""

    detail: list[FieldProblem]


def _to_arrow(columns: Sequence[Column], account: str, rows: Sequence[BaseModel]) -> pa.Table:
    found = [row.model_dump() for row in rows]
    data: dict[str, pa.Array] = {}
    for column in columns:
        kind = _ARROW[column.kind]
        if column.name == "user_id":
            cells: list[Any] = [account] * len(rows)
        else:
            cells = [_cell(column, row) for row in found]
        data[column.name] = pa.array(cells, type=kind)
    data["_file_id"] = pa.array([1] * len(rows), type=pa.int64())
    data["_row_number"] = pa.array(range(1, len(rows) + 1), type=pa.int64())
    return pa.table(data)


def _cell(column: Column, row: Mapping[str, Any]) -> Any:
    value = row[column.name]
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    if isinstance(value, Decimal):
        return value.quantize(Decimal("0.0001"))
    return value
