"""What sqlfluff puts in place of dbt's adapter: a dispatched macro becomes a call of its name."""

from collections.abc import Callable


def dispatch(name: str, package: str) -> Callable[..., str]:
    """Return a macro that renders as a function call."""

    def render(*arguments: object) -> str:
        # A list of columns is written as they would be in SQL.
        flat = [
            str(part)
            for argument in arguments
            for part in (argument if isinstance(argument, list | tuple) else [argument])
        ]
        return f"{name}({', '.join(flat)})"

    return render


def quote(name: str) -> str:
    """Quote a column as DuckDB does."""
    return f'"{name}"'
