"""What sqlfluff puts in place of dbt's graph of the project: nothing is known while linting."""

nodes: dict[str, object] = {}
