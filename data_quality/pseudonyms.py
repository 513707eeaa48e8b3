"""Pseudonyms: names for rows that can be told apart but not traced without this home's salt."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from clv_pipeline.settings import Settings

SALT_NAME = "pseudonym.salt"
SALT_BYTES = 32
PSEUDONYM_DIGITS = 12


class Pseudonymizer:
    """Give the same short name to the same id, by a keyed hash (HMAC-SHA256).

    Parameters
    ----------
    salt
        The secret key. Whoever has it can test guesses of an id, so it stays below the home.
    """

    def __init__(self, salt: bytes) -> None:
        self.salt = salt

    def __call__(self, identifier: str) -> str:
        """Return the pseudonym of an id: 12 hexadecimal digits."""
        digest = hmac.new(self.salt, identifier.encode(), hashlib.sha256).hexdigest()
        return digest[:PSEUDONYM_DIGITS]


def load_pseudonymizer(settings: Settings) -> Pseudonymizer:
    """Read the salt below the project's home; draw it at the first use.

    With it an operator finds a customer again: hash the ids of ``customer_clv`` and compare.
    """
    path = settings.paths.home / SALT_NAME
    if not path.exists():
        _draw_salt(path)
    return Pseudonymizer(path.read_bytes())


def _draw_salt(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(secrets.token_bytes(SALT_BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        # A link, unlike a rename, never replaces the salt of a run that was quicker.
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        temporary.unlink()
