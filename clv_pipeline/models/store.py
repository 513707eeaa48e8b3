"""Models on disk: a folder of data files each, checked by checksum, and the champion pointer."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clv_pipeline.models.base import Files
from clv_pipeline.models.clv import CLVModel

MANIFEST = "manifest.json"
CHAMPION = "champion.json"
MAX_HISTORY = 200


class ModelStoreError(RuntimeError):
    """A model that can't be read or written; the message names the file and what to do."""


def save_model(
    folder: Path, model: CLVModel, manifest: Mapping[str, Any], extra: Files | None = None
) -> Path:
    """Write a model and its manifest below ``folder``, under the manifest's model_version.

    The files are written to a temporary folder, flushed to disk and renamed, so that a folder
    under a version's name is always whole. A version that is there already is left as it is, unless
    it has been damaged since.

    Parameters
    ----------
    folder
        ``settings.paths.models``.
    model
        The fitted model.
    manifest
        Must name ``model_version``; checksums of all files are added.
    extra
        Further files to keep beside the model, such as its backtest.

    Returns
    -------
    Path
        The model's folder.
    """
    version = str(manifest["model_version"])
    target = folder / _checked_name(version)
    if target.exists() and _is_whole(folder, version):
        return target
    files = model.to_files() | (extra or {})
    checksums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    document = {**manifest, "files": checksums}
    document["checksum"] = _document_checksum(document)
    text = json.dumps(document, sort_keys=True, indent=1, default=str)
    temporary = folder / f".{version}.{uuid.uuid4().hex}"
    try:
        for name, data in [*files.items(), (MANIFEST, text.encode())]:
            _write_synced(temporary / name, data)
        for place in [temporary, *(p for p in temporary.rglob("*") if p.is_dir())]:
            _sync_folder(place)
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _sync_folder(folder)
    return target


def read_manifest(folder: Path, version: str) -> dict[str, Any]:
    """Read a version's manifest and check that it is unaltered.

    Raises
    ------
    ModelStoreError
        If it is missing, unreadable or altered.
    """
    path = folder / _checked_name(version) / MANIFEST
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        checksum = document.pop("checksum")
    except FileNotFoundError:
        raise ModelStoreError(f"There is no model {version}: {path} is missing.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError):
        raise ModelStoreError(_damage(version, path.name)) from None
    if checksum != _document_checksum(document):
        raise ModelStoreError(_damage(version, path.name))
    return document


def load_files(folder: Path, version: str) -> tuple[Files, dict[str, Any]]:
    """Read a version's files, each checked, and its manifest.

    Raises
    ------
    ModelStoreError
        If a file is missing, damaged or altered.
    """
    manifest = read_manifest(folder, version)
    files = {}
    for name, checksum in manifest["files"].items():
        path = folder / version / name
        try:
            data = path.read_bytes()
        except OSError:
            raise ModelStoreError(_damage(version, name)) from None
        if hashlib.sha256(data).hexdigest() != checksum:
            raise ModelStoreError(_damage(version, name))
        files[name] = data
    return files, manifest


def _is_whole(folder: Path, version: str) -> bool:
    try:
        load_files(folder, version)
    except ModelStoreError:
        return False
    return True


def load_model(folder: Path, version: str) -> tuple[CLVModel, dict[str, Any]]:
    """Read a version and its manifest.

    Raises
    ------
    ModelStoreError
        If a file is missing, damaged, altered, or from an incompatible release.
    """
    files, manifest = load_files(folder, version)
    try:
        return CLVModel.from_files(files), manifest
    except Exception as error:  # whatever a release before or after this one may have written
        raise ModelStoreError(
            f"Model {version} was saved by a release that this one can't read ({error}). "
            "Train again."
        ) from error


def list_models(folder: Path) -> list[dict[str, Any]]:
    """Return the manifests of all readable versions, oldest first."""
    found = []
    for path in sorted(folder.glob(f"[!.]*/{MANIFEST}")):
        try:
            found.append(read_manifest(folder, path.parent.name))
        except ModelStoreError:
            continue
    return sorted(found, key=lambda m: (str(m.get("as_of")), str(m["model_version"])))


def champion_version(folder: Path) -> str | None:
    """Return the version that serves, or None before the first promotion.

    Raises
    ------
    ModelStoreError
        If the pointer can't be read.
    """
    pointer = _read_pointer(folder)
    return str(pointer["model_version"]) if pointer else None


def load_champion(folder: Path) -> tuple[CLVModel, dict[str, Any]]:
    """Read the model that serves, and its manifest.

    Raises
    ------
    ModelStoreError
        If there is none, or it can't be read.
    """
    version = champion_version(folder)
    if version is None:
        raise ModelStoreError("No model has been promoted yet: run `clv train` first.")
    return load_model(folder, version)


def load_serving(folder: Path) -> tuple[CLVModel, dict[str, Any], str | None]:
    """Read the champion, or the version that stands in for one that can't be read.

    Its predecessors stand in first, newest first, then any other version, newest first.

    Returns
    -------
    tuple
        The model, its manifest, and a sentence where it is not the champion.

    Raises
    ------
    ModelStoreError
        If none has been promoted yet, or none can be read.
    """
    why, line = "", []
    try:
        pointer = _read_pointer(folder)
        if pointer is None:
            raise ModelStoreError("No model has been promoted yet: run `clv train` first.")
        line = [str(version) for version in pointer["line"]]
        return *load_model(folder, line[-1]), None
    except ModelStoreError as error:
        if not (folder / CHAMPION).exists():
            raise
        why = str(error)
    others = [
        str(manifest["model_version"])
        for manifest in reversed(list_models(folder))
        if not manifest.get("is_stand_in")  # made for one day
    ]
    for version in dict.fromkeys([*reversed(line[:-1]), *others]):
        try:
            model, manifest = load_model(folder, version)
        except ModelStoreError:
            continue
        return model, manifest, f"The champion can't be read, so {version} serves. {why}"
    raise ModelStoreError(f"No model can be read: run `clv train`. {why}")


def promote(folder: Path, version: str, reason: str, run_id: str) -> None:
    """Let a version serve, after checking that it is whole, and keep the history.

    Raises
    ------
    ModelStoreError
        If the version is missing or damaged.
    """
    load_model(folder, version)
    try:
        pointer = _read_pointer(folder) or {}
    except ModelStoreError:  # what it said is lost; the line begins anew
        pointer = {}
    if pointer.get("model_version") != version:
        _serve(folder, pointer, version, [*pointer.get("line", []), version], reason, run_id)


def rollback(folder: Path, run_id: str) -> str:
    """Let the champion before the present one serve again, and return its version.

    Raises
    ------
    ModelStoreError
        If there is no earlier champion, or it is damaged.
    """
    pointer = _read_pointer(folder)
    if not pointer:
        raise ModelStoreError("No model has been promoted yet, so none can be rolled back.")
    # The line of succession: rolling back twice goes back twice, not to and fro.
    *line, present = pointer["line"]
    if not line:
        raise ModelStoreError(f"{present} is the first champion; there is none before it.")
    earlier = str(line[-1])
    load_model(folder, earlier)
    _serve(folder, pointer, earlier, line, f"rolled back from {present}", run_id)
    return earlier


def champion_history(folder: Path) -> list[dict[str, Any]]:
    """Return every promotion, oldest first: model_version, reason, run_id."""
    pointer = _read_pointer(folder)
    return list(pointer["history"]) if pointer else []


def _serve(
    folder: Path,
    pointer: Mapping[str, Any],
    version: str,
    line: list[str],
    reason: str,
    run_id: str,
) -> None:
    entry = {"model_version": version, "reason": reason, "run_id": run_id}
    history = [*pointer.get("history", []), entry]
    document = {
        "model_version": version,
        "line": line[-MAX_HISTORY:],
        "history": history[-MAX_HISTORY:],
    }
    temporary = folder / f".{CHAMPION}.{uuid.uuid4().hex}"
    try:
        _write_synced(temporary, json.dumps(document, sort_keys=True, indent=1).encode())
        temporary.replace(folder / CHAMPION)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(folder)


def _read_pointer(folder: Path) -> dict[str, Any] | None:
    path = folder / CHAMPION
    try:
        pointer: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for version in pointer["line"]:
            _checked_name(str(version))
        if pointer["line"][-1] != pointer["model_version"]:
            raise KeyError("line")
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, IndexError, TypeError):
        raise ModelStoreError(
            f"The champion pointer {path} is damaged. Name a version with `clv models promote`."
        ) from None
    return pointer


def _write_synced(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    if os.name == "nt":  # folders can't be opened there
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _document_checksum(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _checked_name(version: str) -> str:
    if not version or version.startswith(".") or Path(version).name != version:
        raise ModelStoreError(f"'{version}' is no model version.")
    return version


def _damage(version: str, name: str) -> str:
    return (
        f"Model {version} is damaged or was altered: {name} does not match its checksum. "
        "Roll back with `clv models rollback`, or train again."
    )
