"""Plug-ins that the settings name: one of ours, or ``package.module:Class``."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any


class TextScoringError(RuntimeError):
    """Texts that can't be read; the message says why and what to do."""


def load_plug_in(setting: str, name: str, ours: Iterable[str]) -> Any:
    """Make an object of a class of the user's own.

    Parameters
    ----------
    setting
        Of ``[texts]``, for the message.
    name
        ``package.module:Class``; the class takes no argument.
    ours
        What else is allowed, for the message.

    Raises
    ------
    TextScoringError
        If it can't be loaded.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, ValueError) as error:
        raise TextScoringError(
            f"texts.{setting} = '{name}' can't be loaded ({error}). Allowed are "
            f"{', '.join(ours)}, and 'package.module:Class' of a class of your own."
        ) from error
