"""The `clv` command as a user types it: what it prints, its exit code, never a traceback."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from clv_pipeline import cli
from clv_pipeline.datasets import write_cdnow
from clv_pipeline.warehouse import open_database

CLV = str(Path(sys.executable).parent / "clv")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLV_CONFIG", raising=False)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


def clv(*arguments: str) -> tuple[int, str]:
    """Run a command as the console script does; return its exit code and all that it said."""
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch, CliRunner().isolation() as (out, *_):
        patch.setattr(sys, "argv", ["clv", *arguments])
        patch.setattr(click, "echo", lambda text="", **_: said.append(str(text)))
        code = 0
        try:
            cli.main()
        except SystemExit as leave:
            code = int(leave.code or 0)
        printed = out.getvalue().decode()
    return code, printed + "\n".join(said)


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


@pytest.mark.parametrize(
    ("path", "command"),
    list(commands(cli.cli)),
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_every_command_explains_itself_with_an_example(
    path: tuple[str, ...], command: click.Command
) -> None:
    result = CliRunner().invoke(cli.cli, [*path, "--help"])
    assert result.exit_code == 0
    assert "Example:" in result.output
    assert f"clv {' '.join(path)}" in result.output.split("Example:")[1]
    assert command.help


def test_without_a_project_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["run"], ["status"], ["doctor"], ["sql", "SELECT 1"], ["models", "list"]):
        result = clv(*arguments)
        assert result[0] == 1
        assert "clv init" in result[1]
        assert "Traceback" not in result[1]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["run", "--cutoff", "1998-02-30"], 2, "'1998-02-30' is not a cutoff"),
        (["backfill", "1998-06-30", "1998-06-01"], 1, "ends (1998-06-01) before it begins"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_wrong_arguments_are_named(
    tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    write_cdnow(tmp_path)
    result = subprocess.run(
        [CLV, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == code
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_a_wrong_setting_is_refused_by_name(tmp_path: Path) -> None:
    config = write_cdnow(tmp_path)
    config.write_text(config.read_text().replace("[30, 90, 180, 365]", "[30, -90]"))
    code, said = clv("run", "--config", str(tmp_path))
    assert code == 1
    assert "horizons" in said
    assert "-90" in said


def test_an_unexpected_error_is_a_sentence_unless_debugged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cdnow(tmp_path)

    def break_down(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("clv_pipeline.orchestration.status.describe_status", break_down)
    code, said = clv("status", "--config", str(tmp_path))
    assert code == 1
    assert "ZeroDivisionError: division by zero" in said
    assert "--debug" in said
    monkeypatch.setattr(sys, "argv", ["clv", "--debug", "status", "--config", str(tmp_path)])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_init_proposes_and_never_overwrites(tmp_path: Path) -> None:
    write_cdnow(tmp_path)
    shop = tmp_path / "shop"
    (shop / "data").mkdir(parents=True)
    shutil.copy(tmp_path / "data" / "cdnow.csv.gz", shop / "data")
    data = str(shop / "data" / "cdnow.csv.gz")
    code, said = clv("init", data, "--folder", str(shop))
    assert code == 0
    assert "clv doctor" in said
    proposed = (shop / "clv.toml").read_text()
    assert 'user_id = "customer_id"' in proposed
    code, said = clv("init", data, "--folder", str(shop))
    assert code == 1
    assert "--force" in said
    code, said = clv("doctor", "--config", str(shop))
    assert code == 0
    assert "can carry a model" in said


def test_the_doctor_s_exit_code_says_when_data_are_too_few(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text(
        "customer_id,date,amount\n" + "".join(f"{n},2024-01-0{n},10\n" for n in range(1, 4))
    )
    clv("init", str(tmp_path / "orders.csv"), "--folder", str(tmp_path))
    code, said = clv("doctor", "--config", str(tmp_path))
    assert code == 1
    assert "stop" in said


def test_before_the_first_run_there_is_nothing_to_ask(tmp_path: Path) -> None:
    write_cdnow(tmp_path)
    code, said = clv("sql", "SELECT 1", "--config", str(tmp_path))
    assert code == 1
    assert "clv run" in said
    code, said = clv("status", "--config", str(tmp_path))
    assert code == 0
    assert "nothing yet" in said
    code, said = clv("models", "list", "--config", str(tmp_path))
    assert code == 0
    assert "clv train" in said


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A project with one published table."""
    write_cdnow(tmp_path)
    version = tmp_path / ".clv" / "versions" / "one"
    version.mkdir(parents=True)
    with open_database(version / "clv.duckdb") as connection:
        connection.execute(
            "CREATE TABLE customer_clv AS SELECT 'c' || i AS customer_id, i * 1000.5 AS clv, "
            "1.0 AS clv_90d, 2.0 AS clv_180d, "
            "DATE '1998-06-30' AS cutoff_date FROM range(100) AS t(i)"
        )
    (tmp_path / ".clv" / "published").symlink_to(version)
    return tmp_path


def test_sql_answers_and_can_t_write(published: Path) -> None:
    def ask(query: str, *options: str) -> tuple[int, str]:
        return clv("sql", query, "--config", str(published), *options)

    code, said = ask("SELECT * FROM customer_clv ORDER BY clv DESC", "--rows", "3")
    assert code == 0
    assert "99,050" in said
    assert "97 more rows" in said
    assert ask("SELECT count(*) AS n FROM clv.customer_clv", "--csv")[1].split() == ["n", "100"]
    for statement in ("DELETE FROM customer_clv", "DROP TABLE customer_clv"):
        code, said = ask(statement)
        assert code == 1
        assert "read-only" in said
    code, said = ask("SELECT clw FROM customer_clv")
    assert code == 1
    assert '"clw" not found' in said
    assert "horizons" not in said
    for query in (
        "SELECT sum(clv_365d) FROM customer_clv",
        "SELECT round(clv_365d) AS clv_365d FROM customer_clv ORDER BY clv_365d_p10",
    ):
        code, said = ask(query)
        assert code == 1
        assert "The horizons of these tables are 90, 180 days: ask for clv_180d" in said
    assert "Traceback" not in said


def test_the_demo_is_prepared_once_and_keeps_other_projects(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    code, _ = clv("demo", "--prepare-only", "--folder", str(folder))
    assert code == 0
    before = (folder / "clv.toml").stat().st_mtime_ns
    code, _ = clv("demo", "--prepare-only", "--folder", str(folder))
    assert code == 0
    assert (folder / "clv.toml").stat().st_mtime_ns == before
    code, said = clv("demo", "--prepare-only", "--folder", str(folder), "--dataset", "shop")
    assert code == 1
    assert "holds another project" in said
