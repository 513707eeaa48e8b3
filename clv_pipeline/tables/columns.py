"""What a table and a column are, and the columns that many tables share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    name, kind, description
        Its name, its DuckDB type, and what it means.
    """

    name: str
    kind: str
    description: str


@dataclass(frozen=True)
class Table:
    """One table of the warehouse.

    Attributes
    ----------
    description
        What one row is.
    columns
        Its columns, in order.
    """

    description: str
    columns: tuple[Column, ...]

    def column(self, name: str) -> Column:
        """Return the column of that name.

        Raises
        ------
        KeyError
            If the table has no such column.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"the table has no column '{name}'")


CUSTOMER = Column("customer_id", "VARCHAR", "The customer, as accounts were merged at the cutoff.")
CUTOFF = Column("cutoff_date", "DATE", "The business day up to and including which was known.")
HORIZON = Column("horizon_days", "INTEGER", "Days after the cutoff that are predicted.")
MODEL = Column("model", "VARCHAR", "Name of the model or baseline.")
EVALUATION = Column("evaluation_date", "DATE", "The cutoff that was predicted.")
VERSION = Column("model_version", "VARCHAR", "The version of the model.")
RUN = Column("run_id", "VARCHAR", "The run that wrote the row.")
