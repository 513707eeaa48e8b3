from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from clv_pipeline import documentation
from clv_pipeline.dbt_project import install_dbt_project
from clv_pipeline.documentation import (
    BEGIN,
    END,
    DocumentationError,
    render_pages,
    write_pages,
)
from clv_pipeline.features.registry import load_features
from clv_pipeline.ingest.contract import CONTRACTS
from clv_pipeline.settings import (
    Exclusion,
    InputSettings,
    Settings,
    SqlColumn,
    build_settings,
    load_settings,
)

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = ("settings.md", "inputs.md", "features.md", "tables.md")
SECTIONS = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}


@pytest.fixture(scope="module")
def rendered() -> dict[str, str]:
    return {path.name: text for path, text in render_pages(DOCS).items()}


def rows_of(text: str, title: str) -> dict[str, list[str]]:
    """First cell without its ticks -> all cells of the table below a title."""
    level = title.split(" ")[0]
    part = text.split(f"\n{title}\n")[1].split(f"\n{level} ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {row[0].strip("`"): row for row in cells}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says(rendered: dict[str, str], name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == rendered[name], (
        f"docs/{name} is out of date: run `make docs`."
    )


@pytest.mark.parametrize("name", PAGES)
def test_the_readme_leads_to_each_page(name: str) -> None:
    assert f"(docs/{name})" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("title", "model"),
    [
        *((f"## `[{name}]`", model) for name, model in SECTIONS.items()),
        ("## `[inputs.<input>]`", InputSettings),
        ("## `[inputs.<input>.columns]: column = { ... }`", SqlColumn),
        ("## `[[inputs.<input>.exclude]]`", Exclusion),
    ],
)
def test_every_setting_is_there_with_its_meaning(
    rendered: dict[str, str], title: str, model: type[BaseModel]
) -> None:
    rows = rows_of(rendered["settings.md"], title)
    assert list(rows) == list(model.model_fields)
    for name, field in model.model_fields.items():
        assert field.description
        assert rows[name][3] == field.description
        assert all(rows[name])


def test_what_is_allowed_is_said(rendered: dict[str, str]) -> None:
    text = rendered["settings.md"]
    assert rows_of(text, "## `[model]`")["trees"][1:3] == ["whole number ≥ 1, ≤ 5000", "`60`"]
    assert rows_of(text, "## `[gates]`")["total_band"][1:3] == ["number > 1", "`4.0`"]
    assert rows_of(text, "## `[cadence]`")["last_cutoff"][1:3] == ["date", "unset"]
    assert rows_of(text, "## `[value]`")["definition"][1] == (
        '`"net_revenue"`, `"contribution_margin"`'
    )


def examples(page: str) -> Iterator[tuple[str, str]]:
    for line in page.split("```sh\n")[1].split("```")[0].splitlines():
        name, _, value = shlex.split(line)[0].partition("=")
        yield name, value


def test_each_override_that_is_shown_works(rendered: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "clv.toml").touch()
    plain = load_settings(tmp_path, environ={})
    shown = dict(examples(rendered["settings.md"]))
    assert len(shown) == len(documentation.OVERRIDES)
    for name, value in shown.items():
        assert load_settings(tmp_path, environ={name: value}) != plain, name


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_column_of_an_input_is_there(rendered: dict[str, str], name: str) -> None:
    contract = CONTRACTS[name]
    title = f"### `{name}`" + (" (required)" if contract.required else "")
    rows = rows_of(rendered["inputs.md"], title)
    assert list(rows) == [field.name for field in contract.fields]
    for field in contract.fields:
        _, kind, required, default, personal, meaning = rows[field.name]
        assert kind == field.kind
        assert ("column" in required) is field.required
        assert ("value" in required) is not field.nullable
        assert default.strip("`") == (field.default or "")
        assert (personal == "yes") is field.personal
        assert meaning.startswith(field.description)


def test_every_feature_is_there_once(rendered: dict[str, str]) -> None:
    features = load_features()
    text = rendered["features.md"]
    views = dict.fromkeys(feature.view for feature in features)
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Feature services", *views]
    rows = {name: row for view in views for name, row in rows_of(text, f"## {view}").items()}
    assert sorted(rows) == sorted(feature.name for feature in features)
    for feature in features:
        assert rows[feature.name][-1] == feature.description
        assert (rows[feature.name][6] == "yes") is feature.is_model_input


def test_every_column_of_an_installed_mart_is_there(
    rendered: dict[str, str], tmp_path: Path
) -> None:
    project = install_dbt_project(build_settings(tmp_path, {}))
    marts = [
        mart
        for path in sorted((project / "models/marts").glob("*.yml"))
        for mart in yaml.safe_load(path.read_text()).get("models", ())
    ]
    text = rendered["tables.md"]
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [mart["name"] for mart in marts]
    for mart in marts:
        rows = rows_of(text, f"## {mart['name']}")
        assert {name: row[2] for name, row in rows.items()} == {
            column["name"]: " ".join(column["description"].split()) for column in mart["columns"]
        }


@pytest.mark.parametrize("name", PAGES)
def test_every_row_of_a_table_has_the_cells_of_its_head(
    rendered: dict[str, str], name: str
) -> None:
    count = None
    for line in rendered[name].splitlines():
        if not line.startswith("|"):
            count = None
            continue
        cells = len(re.split(r"(?<!\\)\|", line))
        assert count in (None, cells), line
        count = cells


def test_only_what_stands_between_the_markers_is_written(tmp_path: Path) -> None:
    page = tmp_path / "inputs.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    write_pages(tmp_path)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "\nold\n" not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(PAGES)
    assert render_pages(tmp_path)[page] == text


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_a_page_without_its_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "inputs.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(DocumentationError, match=r"inputs\.md must hold"):
        write_pages(tmp_path)
    assert page.read_text(encoding="utf-8") == text
    assert list(tmp_path.iterdir()) == [page]


def test_a_folder_without_pages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentationError, match="name the folder"):
        write_pages(tmp_path)
