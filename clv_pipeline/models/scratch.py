"""What an interrupted training had fitted, for the next one to go on from.

A folder belongs to one content: data, recipe and libraries. It is dropped when the training ends.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from clv_pipeline.models.base import Files
from clv_pipeline.warehouse import write_atomically


class Scratch:
    """Named files of a training under way; each is there whole or not at all.

    Parameters
    ----------
    folder
        Of all trainings; nothing is kept when None.
    content
        What the fits depend on. Files of another content are dropped.
    """

    def __init__(self, folder: Path | None, content: Any = None) -> None:
        self._root = folder
        digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode())
        self._folder = None if folder is None else folder / digest.hexdigest()[:16]
        for other in folder.iterdir() if folder is not None and folder.exists() else ():
            if other != self._folder:
                shutil.rmtree(other, ignore_errors=True)

    @property
    def keeps(self) -> bool:
        """Whether anything is kept."""
        return self._folder is not None

    def find(self, name: str) -> Files | None:
        """Return the files of a name; None where they were not kept."""
        path = self._path(name)
        if path is None or not path.exists():
            return None
        with zipfile.ZipFile(path) as archive:
            return {entry: archive.read(entry) for entry in archive.namelist()}

    def keep(self, name: str, files: Files) -> None:
        """Keep files under a name."""
        path = self._path(name)
        if path is None:
            return
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for entry, data in files.items():
                archive.writestr(entry, data)
        write_atomically(path, buffer.getvalue())

    def clear(self) -> None:
        """Drop everything."""
        if self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)

    def _path(self, name: str) -> Path | None:
        return None if self._folder is None else self._folder / f"{name}.zip"
