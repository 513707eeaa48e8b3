"""The contract of each input: written here once, used by readers, dbt sources, checks and docs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["key", "text", "instant", "day", "money", "number", "flag", "json"]

# The type that a landed column has in DuckDB. Instants are stored in UTC without an offset.
DUCKDB_TYPES: dict[Kind, str] = {
    "key": "VARCHAR",
    "text": "VARCHAR",
    "instant": "TIMESTAMP",
    "day": "DATE",
    "money": "DECIMAL(18,4)",
    "number": "DOUBLE",
    "flag": "BOOLEAN",
    "json": "VARCHAR",
}


@dataclass(frozen=True)
class Field:
    """One column of an input.

    Attributes
    ----------
    name
        The name after mapping.
    kind
        What a value must parse as; a key is text that may not be blank.
    description
        What it means, in a sentence, with its default when the source has no such column.
    required
        Whether the source must have the column.
    nullable
        Whether a single value may be missing. A row with a missing value that may not be is
        quarantined.
    default
        Value for a missing column and for a missing value.
    values
        The values that are known, when there is a list; any other becomes 'unknown', with a
        warning.
    personal
        Whether the value identifies or describes a person.
    """

    name: str
    kind: Kind
    description: str
    required: bool = False
    nullable: bool = True
    default: str | None = None
    personal: bool = False
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contract:
    """The columns of one input, and what a row of it is.

    Attributes
    ----------
    name
        The input's name; the landed table is ``raw.<name>``.
    description
        What one row is.
    fields
        Its columns, in order.
    instant
        The column that says when a row happened, checked against the first and the last plausible
        day.
    required
        Whether the pipeline needs the input.
    keeps_further_columns
        Whether columns that the contract does not know are kept (as a JSON object in
        ``attributes_json``) instead of left out with a warning.
    """

    name: str
    description: str
    fields: tuple[Field, ...]
    instant: str
    required: bool = False
    keeps_further_columns: bool = False

    def field(self, name: str) -> Field:
        """Return the column of that name.

        Raises
        ------
        KeyError
            If the contract has no such column.
        """
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(f"input '{self.name}' has no column '{name}'")


_INGESTED_AT = Field(
    "ingested_at",
    "instant",
    "When the shop's systems knew the row. Missing: it was known on the day it happened.",
)

TRANSACTIONS = Contract(
    "transactions",
    "One line of an order or of a refund. Rows that share a transaction_id make one order.",
    (
        Field(
            "transaction_id",
            "key",
            "The order. Missing column: every row is an order of its own, and rows are not "
            "deduplicated against each other.",
            personal=True,
        ),
        Field(
            "user_id",
            "key",
            "Who bought. Blank: a guest, whose revenue is reported beside the customers'.",
            required=True,
            personal=True,
        ),
        Field("ts", "instant", "When it was ordered or refunded.", required=True, nullable=False),
        Field(
            "amount",
            "money",
            "What was paid for the line, in `currency`; negative means paid back.",
            required=True,
            nullable=False,
        ),
        Field(
            "currency",
            "text",
            "ISO 4217 code of the amount. Missing: the reporting currency.",
        ),
        Field("channel", "text", "Where it was sold. Missing: 'unknown'.", default="unknown"),
        Field("sku", "text", "What was sold. Missing: not counted."),
        Field("category", "text", "What kind of article it is. Missing: not counted."),
        Field("quantity", "number", "How many pieces. Missing: 1.", default="1"),
        Field(
            "discount",
            "money",
            "What was taken off the line's price, in `currency`, at least 0. Missing: unknown.",
        ),
        Field("country", "text", "Country of delivery. Missing: 'unknown'.", default="unknown"),
        Field("is_refund", "flag", "Whether the line is paid back. Missing: amount < 0."),
        Field(
            "variable_cost",
            "money",
            "Cost of the line, in `currency`, subtracted for contribution margin. Missing: 0.",
            default="0",
        ),
        _INGESTED_AT,
    ),
    instant="ts",
    required=True,
)

USERS = Contract(
    "users",
    "What is known of a person from updated_at on; several rows of one person are its versions.",
    (
        Field("user_id", "key", "The person.", required=True, nullable=False, personal=True),
        Field("signup_ts", "instant", "When the account was opened.", personal=True),
        Field("country", "text", "Country of residence.", personal=True),
        Field("device", "text", "Main device."),
        Field("acquisition_source", "text", "Channel that brought the person."),
        Field("birth_year", "number", "Year of birth.", personal=True),
        Field("gender", "text", "Gender as stated.", personal=True),
        Field("has_email_consent", "flag", "May be written to by mail. Missing: unknown."),
        Field("has_profiling_consent", "flag", "May be profiled. Missing: unknown."),
        Field(
            "updated_at",
            "instant",
            "From when on this version holds. Missing: from signup on, or always.",
        ),
    ),
    instant="signup_ts",
    keeps_further_columns=True,
)

EVENTS = Contract(
    "events",
    "One thing that a person did on the site or in the app.",
    (
        Field("user_id", "key", "Who.", required=True, nullable=False, personal=True),
        Field("ts", "instant", "When.", required=True, nullable=False),
        Field(
            "event_name",
            "text",
            "What: session_start, page_view, search, add_to_cart, checkout, purchase, "
            "campaign_click or one of the shop's own.",
            required=True,
            nullable=False,
        ),
        Field("session_id", "key", "Visit. Missing: one visit a day.", personal=True),
        Field("metadata_json", "json", "Anything else, as a JSON object.", personal=True),
        _INGESTED_AT,
    ),
    instant="ts",
)

TEXTS = Contract(
    "texts",
    "One text that a person wrote.",
    (
        Field("user_id", "key", "Who.", required=True, nullable=False, personal=True),
        Field("ts", "instant", "When.", required=True, nullable=False),
        Field(
            "kind",
            "text",
            "review, ticket, survey, social. Missing: 'unknown'.",
            default="unknown",
            values=("review", "ticket", "survey", "social", "unknown"),
        ),
        Field("text", "text", "The words.", required=True, nullable=False, personal=True),
        _INGESTED_AT,
    ),
    instant="ts",
)

CAMPAIGN_EXPOSURES = Contract(
    "campaign_exposures",
    "One contact of a campaign with a person.",
    (
        Field("user_id", "key", "Who.", required=True, nullable=False, personal=True),
        Field("ts", "instant", "When.", required=True, nullable=False),
        Field("campaign_id", "key", "Which campaign.", required=True, nullable=False),
        Field(
            "arm",
            "text",
            "Arm of the test. Who is in 'control' was not contacted. Missing: 'treated'.",
            default="treated",
        ),
        Field("cost", "money", "Cost of the contact in the reporting currency.", default="0"),
        _INGESTED_AT,
    ),
    instant="ts",
)

ACQUISITION_COSTS = Contract(
    "acquisition_costs",
    "What a channel cost on a day.",
    (
        Field("day", "day", "The day.", required=True, nullable=False),
        Field("acquisition_source", "text", "Channel, as in users.", required=True, nullable=False),
        Field(
            "cost",
            "money",
            "Cost in the reporting currency.",
            required=True,
            nullable=False,
        ),
    ),
    instant="day",
)

ACCOUNT_MERGES = Contract(
    "account_merges",
    "From ts on, what old_user_id did belongs to new_user_id; naming itself splits it off again.",
    (
        Field("old_user_id", "key", "The account.", required=True, nullable=False, personal=True),
        Field("new_user_id", "key", "Its owner.", required=True, nullable=False, personal=True),
        Field("ts", "instant", "From when on.", required=True, nullable=False),
    ),
    instant="ts",
)

EXCHANGE_RATES = Contract(
    "exchange_rates",
    "What one unit of a currency was worth on a day in the reporting currency.",
    (
        Field("day", "day", "The day.", required=True, nullable=False),
        Field("currency", "text", "ISO 4217 code.", required=True, nullable=False),
        Field(
            "rate",
            "number",
            "Units of the reporting currency for one unit of the currency.",
            required=True,
            nullable=False,
        ),
        Field(
            "known_at",
            "instant",
            "When this rate was known; a later row for the same day restates it. Missing: that "
            "day.",
        ),
    ),
    instant="day",
)

CONTRACTS: dict[str, Contract] = {
    contract.name: contract
    for contract in (
        TRANSACTIONS,
        USERS,
        EVENTS,
        TEXTS,
        CAMPAIGN_EXPOSURES,
        ACQUISITION_COSTS,
        ACCOUNT_MERGES,
        EXCHANGE_RATES,
    )
}
