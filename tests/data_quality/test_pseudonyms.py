from __future__ import annotations

import re

from clv_pipeline.settings import Settings
from data_quality.pseudonyms import SALT_NAME, Pseudonymizer, load_pseudonymizer


def test_same_name_for_the_same_id_in_every_process(settings: Settings) -> None:
    first, second = load_pseudonymizer(settings), load_pseudonymizer(settings)
    assert first("anna") == second("anna")
    assert first("anna") != first("bert")
    assert re.fullmatch("[0-9a-f]{12}", first("änna ' 客"))


def test_another_home_names_otherwise() -> None:
    assert Pseudonymizer(b"a" * 32)("anna") != Pseudonymizer(b"b" * 32)("anna")


def test_salt_is_readable_by_its_owner_alone_and_below_the_home(settings: Settings) -> None:
    load_pseudonymizer(settings)
    salt = settings.paths.home / SALT_NAME
    assert len(salt.read_bytes()) == 32
    assert salt.stat().st_mode & 0o077 == 0
    assert [file.name for file in settings.paths.home.iterdir()] == [SALT_NAME]
