from __future__ import annotations

from pathlib import Path

import pytest

from clv_pipeline.settings import SettingsError, build_settings, load_settings

GOOD = """
[project]
name = "shop"
time_zone = "Europe/Berlin"
[value]
horizons = [90, 30]
[inputs.transactions]
files = ["orders/*.csv"]
columns = { amount = { sql = "quantity * price" }, user_id = "customer" }
"""


def test_a_file_becomes_a_frozen_object(tmp_path: Path) -> None:
    (tmp_path / "clv.toml").write_text(GOOD)
    settings = load_settings(tmp_path, environ={})
    assert settings.value.horizons == (30, 90)
    assert settings.value.churn_days == 90
    assert settings.paths.home == tmp_path / ".clv"
    with pytest.raises(Exception, match="frozen"):
        settings.value.horizons = (1,)  # type: ignore[misc]


def test_the_environment_overrides_a_key(tmp_path: Path) -> None:
    (tmp_path / "clv.toml").write_text(GOOD)
    environ = {
        "CLV_CONFIG": str(tmp_path),
        "CLV_VALUE__HORIZONS": "[7, 14]",
        "CLV_PROJECT__TIME_ZONE": "Asia/Tokyo",
    }
    settings = load_settings(environ=environ)
    assert settings.value.horizons == (7, 14)
    assert settings.project.time_zone == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("document", "key", "value", "remedy"),
    [
        ({"project": {"tme_zone": "UTC"}}, "project.tme_zone", "", "Did you mean 'time_zone'?"),
        ({"projct": {}}, "projct", "", "Did you mean 'project'?"),
        ({"value": {"horizons": [30, -3]}}, "value.horizons.1", "-3", "greater than 0"),
        ({"value": {"horizons": [30, 30]}}, "value.horizons", "30, 30", "named once"),
        ({"value": {"churn_horizon_days": 31}}, "value", "", "must be one of the horizons"),
        (
            {"project": {"time_zone": "Europe/Berln"}},
            "project.time_zone",
            "'Europe/Berln'",
            "did you mean 'Europe/Berlin'?",
        ),
        ({"project": {"reporting_currency": "euro"}}, "reporting_currency", "'euro'", "A-Z"),
        ({"inputs": {"orders": {"files": ["a"]}}}, "inputs.orders", "", "'transactions'"),
        ({"inputs": {"users": {}}}, "inputs.users", "", "'files'"),
        ({"inputs": {"users": {"duckdb": "a.db"}}}, "inputs.users", "", "'table'"),
        ({"root": "/x"}, "root", "", "not a setting"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    tmp_path: Path, document: dict[str, object], key: str, value: str, remedy: str
) -> None:
    with pytest.raises(SettingsError) as error:
        build_settings(tmp_path, document, source="clv.toml")
    message = str(error.value)
    assert message.startswith("clv.toml: ")
    assert key in message
    assert value in message
    assert remedy in message


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="clv init"):
        load_settings(tmp_path, environ={})


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "clv.toml").write_text("[project]\nname = \n")
    with pytest.raises(SettingsError, match="line 2"):
        load_settings(tmp_path, environ={})
