"""Models on disk: whole or not there, checked, promoted and rolled back."""

from __future__ import annotations

import json
import os

import pytest

from clv_pipeline.models import store
from clv_pipeline.models.clv import CLVModel
from clv_pipeline.models.store import ModelStoreError


def model(horizon=30):
    made = CLVModel((horizon,))
    made.served_by_ = {horizon: "rate_times_aov"}
    made.confidence_ = {horizon: ("low", "nothing has matured")}
    return made


def save(folder, version, **manifest):
    made = {"model_version": version, "as_of": version[:10]} | manifest
    return store.save_model(folder, model(), made, {"extra/notes.bin": b"123"})


@pytest.fixture
def folder(tmp_path):
    save(tmp_path, "2024-01-31-aaaaaaaa")
    save(tmp_path, "2024-02-29-bbbbbbbb")
    return tmp_path


def test_a_saved_model_comes_back(folder):
    loaded, manifest = store.load_model(folder, "2024-01-31-aaaaaaaa")
    assert loaded.served_by_ == {30: "rate_times_aov"}
    assert loaded.confidence_ == model().confidence_
    assert manifest["as_of"] == "2024-01-31"
    assert store.load_files(folder, "2024-01-31-aaaaaaaa")[0]["extra/notes.bin"] == b"123"
    versions = [m["model_version"] for m in store.list_models(folder)]
    assert versions == ["2024-01-31-aaaaaaaa", "2024-02-29-bbbbbbbb"]


@pytest.mark.parametrize("name", ["model.json", "extra/notes.bin", "manifest.json"])
@pytest.mark.parametrize("damage", ["altered", "cut off", "gone"])
def test_a_damaged_file_is_refused_by_name(folder, name, damage):
    path = folder / "2024-01-31-aaaaaaaa" / name
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-1] + b"!" if damage == "altered" else data[:-2])
    with pytest.raises(ModelStoreError, match=name.rpartition("/")[2]):
        store.load_model(folder, "2024-01-31-aaaaaaaa")
    # The other one is not touched by it.
    store.load_model(folder, "2024-02-29-bbbbbbbb")
    # The same training makes the same version: it takes the damaged one's place.
    save(folder, "2024-01-31-aaaaaaaa")
    store.load_model(folder, "2024-01-31-aaaaaaaa")


def test_a_manifest_that_was_altered_is_refused(folder):
    path = folder / "2024-01-31-aaaaaaaa" / "manifest.json"
    document = json.loads(path.read_text())
    document["as_of"] = "2020-01-01"
    path.write_text(json.dumps(document))
    with pytest.raises(ModelStoreError, match="does not match its checksum"):
        store.load_model(folder, "2024-01-31-aaaaaaaa")
    assert len(store.list_models(folder)) == 1


def test_no_half_model_ever_stands_under_its_name(tmp_path, monkeypatch):
    written = []

    def fail(handle):
        written.append(handle)
        if len(written) == 2:
            raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, "2024-01-31-aaaaaaaa")
    assert list(tmp_path.iterdir()) == []


def test_a_version_is_written_once(folder):
    before = (folder / "2024-01-31-aaaaaaaa" / "manifest.json").read_bytes()
    save(folder, "2024-01-31-aaaaaaaa", note="another")
    assert (folder / "2024-01-31-aaaaaaaa" / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("version", ["", "../x", ".hidden", "a/b", "/etc"])
def test_a_name_that_leaves_the_folder_is_refused(folder, version):
    with pytest.raises(ModelStoreError, match="is no model version"):
        store.load_model(folder, version)


def test_promotion_and_rollback(folder):
    assert store.champion_version(folder) is None
    with pytest.raises(ModelStoreError, match="has been promoted yet"):
        store.load_champion(folder)
    with pytest.raises(ModelStoreError, match="none can be rolled back"):
        store.rollback(folder, "r0")
    store.promote(folder, "2024-01-31-aaaaaaaa", "first", "r1")
    with pytest.raises(ModelStoreError, match="first champion"):
        store.rollback(folder, "r1")
    store.promote(folder, "2024-02-29-bbbbbbbb", "better", "r2")
    store.promote(folder, "2024-02-29-bbbbbbbb", "again", "r3")
    assert store.load_champion(folder)[1]["model_version"] == "2024-02-29-bbbbbbbb"
    assert store.rollback(folder, "r4") == "2024-01-31-aaaaaaaa"
    assert store.champion_version(folder) == "2024-01-31-aaaaaaaa"
    told = [(e["model_version"], e["run_id"]) for e in store.champion_history(folder)]
    assert [run for _, run in told] == ["r1", "r2", "r4"]


def test_rolling_back_twice_does_not_return_to_what_was_left(tmp_path):
    for version in ("2024-01-31-a", "2024-02-29-b", "2024-03-31-c"):
        save(tmp_path, version)
        store.promote(tmp_path, version, "better", "r")
    assert store.rollback(tmp_path, "r") == "2024-02-29-b"
    assert store.rollback(tmp_path, "r") == "2024-01-31-a"
    with pytest.raises(ModelStoreError, match="none before it"):
        store.rollback(tmp_path, "r")


def test_a_damaged_model_is_not_promoted(folder):
    store.promote(folder, "2024-01-31-aaaaaaaa", "first", "r1")
    (folder / "2024-02-29-bbbbbbbb" / "model.json").write_bytes(b"{}")
    with pytest.raises(ModelStoreError, match="damaged"):
        store.promote(folder, "2024-02-29-bbbbbbbb", "better", "r2")
    assert store.champion_version(folder) == "2024-01-31-aaaaaaaa"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model_version": "../x", "history": []}'])
def test_a_damaged_pointer_is_refused(folder, text):
    (folder / store.CHAMPION).write_text(text)
    with pytest.raises(ModelStoreError):
        store.champion_version(folder)


def test_a_damaged_pointer_is_mended_by_naming_a_version(folder):
    store.promote(folder, "2024-01-31-aaaaaaaa", "first", "r1")
    (folder / store.CHAMPION).write_text("{")
    store.promote(folder, "2024-02-29-bbbbbbbb", "named by hand", "r2")
    assert store.champion_version(folder) == "2024-02-29-bbbbbbbb"


def test_without_a_promotion_nothing_stands_in(folder):
    with pytest.raises(ModelStoreError, match="has been promoted yet"):
        store.load_serving(folder)


def test_the_champion_serves_and_says_nothing(folder):
    store.promote(folder, "2024-01-31-aaaaaaaa", "first", "r1")
    _, manifest, note = store.load_serving(folder)
    assert (manifest["model_version"], note) == ("2024-01-31-aaaaaaaa", None)


@pytest.mark.parametrize("damage", ["file", "pointer", "release"])
def test_another_version_stands_in_for_a_champion_that_cannot_be_read(folder, damage, monkeypatch):
    for version in ("2024-01-31-aaaaaaaa", "2024-02-29-bbbbbbbb"):
        store.promote(folder, version, "better", "r")
    expected = "2024-01-31-aaaaaaaa"
    if damage == "file":
        (folder / "2024-02-29-bbbbbbbb" / "model.json").write_bytes(b"{}")
    elif damage == "pointer":
        (folder / store.CHAMPION).write_text("[]")
        expected = "2024-02-29-bbbbbbbb"  # whose line is lost: the newest one
    else:
        read, asked = CLVModel.from_files, []

        def from_files(files):
            asked.append(files)
            if len(asked) == 1:
                raise AttributeError("saved by a release that had no such thing")
            return read(files)

        monkeypatch.setattr(CLVModel, "from_files", from_files)
    _, manifest, note = store.load_serving(folder)
    assert manifest["model_version"] == expected
    assert f"{expected} serves" in note


def test_when_no_version_can_be_read_it_says_what_to_do(folder):
    store.promote(folder, "2024-01-31-aaaaaaaa", "first", "r1")
    for path in folder.glob("*/model.json"):
        path.write_bytes(b"{}")
    with pytest.raises(ModelStoreError, match="No model can be read: run `clv train`"):
        store.load_serving(folder)


def test_nothing_is_pickled(folder):
    suffixes = {p.suffix for p in folder.rglob("*") if p.is_file()}
    assert suffixes <= {".json", ".npz", ".ubj", ".bin", ".parquet"}
