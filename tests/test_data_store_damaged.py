"""Damaged and hostile stores: every file cut, changed, replaced, and every number in it, ends in one sentence."""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import clip, write

from asma.data import Clip, open_clips, open_store, verify_store


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """See test_data_store."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def use_all(path):
    """Ask for everything that there is."""
    store = open_store(path)
    store.resample(5, 2)
    [store.as_clip(i) for i in range(len(store))]
    [store.clip(i) for i in range(len(store))]
    [store.members(name) for name in store.split_names]


SMALL = [clip(0, 3, splits=("train",)), clip(1, 4, [(0, 0, 2), (1, 1, 3), (0, 3, 1)], splits=("val",)), clip(2, 2, [])]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write(tmp_path_factory.mktemp("small") / "s", SMALL)


def files_of(path):
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


def is_refused(path, check):
    try:
        check(path)
    except (ValueError, FileNotFoundError) as error:
        assert "\n" not in str(error) and str(path) in str(error), error
        return True
    return False


def test_every_file_cut_at_every_byte_is_refused(tmp_path, small):
    copy = shutil.copytree(small, tmp_path / "s")
    for name in files_of(copy):
        content = (copy / name).read_bytes()
        for size in range(len(content)):
            (copy / name).write_bytes(content[:size])
            # The last line break of JSON means nothing.
            complete = name.endswith(".json") and size == len(content) - 1
            assert is_refused(copy, verify_store if "/store.json" in name else use_all) != complete, (name, size)
        (copy / name).write_bytes(content)
    verify_store(copy)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_other_bytes_are_refused_or_harmless_and_verify_finds_them(small, data):
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(small, Path(folder) / "s")
        name = data.draw(st.sampled_from([name for name in files_of(copy) if name != "left_out.jsonl"]))
        content = bytearray((copy / name).read_bytes())
        before = bytes(content)
        for _ in range(data.draw(st.integers(1, 8))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        (copy / name).write_bytes(content)
        is_refused(copy, use_all)
        if name.endswith(".npy"):
            assert is_refused(copy, verify_store) == (bytes(content) != before)


HOSTILE = [-1, 0, 1, 3, 2**31, 2**53, 2**62, 2**63 - 1, -(2**63)]


@pytest.mark.parametrize("name", ["clips.npy", "tracks.npy", "text_ends.npy"])
def test_hostile_tables_are_refused_or_harmless(tmp_path, small, name):
    """Every number of a table replaced by every hostile one: a sentence or an answer, never another exception."""
    copy = shutil.copytree(small, tmp_path / "s")
    path = copy / "shard-00000" / name
    content = path.read_bytes()
    begin = 10 + int.from_bytes(content[8:10], "little")
    refused = 0
    for place in range(begin, len(content), 8):
        for number in HOSTILE:
            path.write_bytes(content[:place] + number.to_bytes(8, "little", signed=True) + content[place + 8 :])
            refused += is_refused(copy, use_all)
    assert refused > (len(content) - begin) // 8


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "zarr"}, "format must be 'asma clips', got 'zarr'"),
        ({"version": 2}, "version must be 1, got 2: take the asma-kernels that wrote it"),
        ({"classes": [1]}, "classes must be a list of strings"),
        ({"channels": "xy"}, "channels must be one of xyz, xys, got 'xy'"),
        ({"dtype": "object"}, "dtype must be one of float32, float16, got 'object'"),
        ({"provenance": 3}, "provenance must be an object"),
        ({"shards": []}, "shards must be a list of at least one"),
        ({"shards": [3]}, r"shards\[0\] must be an object, got int"),
        ({"joints": ["a"] * 5000}, "joints must be at most 4096, got 5000"),
        ({"edges": [[0, 9]]}, "joints, edges and centre must make a skeleton"),
        ({"folder": "../outside"}, "folder must be '.' or like shard-00000, got '../outside'"),
        ({"folder": "/etc"}, "folder must be '.' or like shard-00000"),
        ({"folder": "shard-00000/../../x"}, "folder must be '.' or like shard-00000"),
        ({"clips": 10**30}, r"clips must be an integer in \[1, 2\^40\)"),
        ({"clips": -1}, "clips must be an integer in"),
        ({"clips": True}, "clips must be an integer in"),
        ({"rows": 2**39}, "frames.npy' must have 19791209300096 bytes|must have"),
        ({"rows": 1e309}, "rows must be an integer in"),
        ({"splits": ["a", "a"]}, "splits must differ"),
        ({"splits": "train"}, "splits must be a list of at most 63 strings"),
        ({"files": {}}, "files must have the SHA-256 of frames.npy, got None"),
    ],
)
def test_a_store_json_that_breaks_a_rule_is_refused(tmp_path, small, changes, said):
    copy = shutil.copytree(small, tmp_path / "s")
    values = json.loads((copy / "store.json").read_text())
    for key, value in changes.items():
        (values if key in values else values["shards"][0])[key] = value
    (copy / "store.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=said) as caught:
        open_store(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe{\x00}\x00", b"[" * 100_000, b'{"name": NaN}'])
def test_a_store_json_that_is_none_is_refused(tmp_path, small, content):
    copy = shutil.copytree(small, tmp_path / "s")
    (copy / "store.json").write_bytes(content)
    assert is_refused(copy, open_store)


def test_what_is_no_store_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="has no store.json: make a store by asma data convert"):
        open_clips(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        open_store(tmp_path / "gone")


def test_links_and_pipes_in_place_of_files_are_not_read(tmp_path, small):
    copy = shutil.copytree(small, tmp_path / "s")
    frames = copy / "shard-00000" / "frames.npy"
    content = frames.read_bytes()
    frames.unlink()
    os.mkfifo(frames)
    assert is_refused(copy, open_store)
    frames.unlink()
    for target in ("/dev/zero", tmp_path / "nothing", copy):
        frames.symlink_to(target)
        assert is_refused(copy, open_store)
        frames.unlink()
    (tmp_path / "elsewhere.npy").write_bytes(content)
    frames.symlink_to(tmp_path / "elsewhere.npy")  # a set may be spread over disks
    verify_store(copy)


def test_another_stores_shard_is_found(tmp_path, small):
    copy = shutil.copytree(small, tmp_path / "s")
    other = write(tmp_path / "t", [Clip(**(vars(each) | {"label": 1 - each.label})) for each in SMALL])
    for name in ("store.json", "clips.npy"):
        content = (copy / "shard-00000" / name).read_bytes()
        shutil.copy(other / "shard-00000" / name, copy / "shard-00000" / name)
        open_store(copy)
        with pytest.raises(ValueError, match="verify_store: "):
            verify_store(copy)
        (copy / "shard-00000" / name).write_bytes(content)


def rewritten(path, name, change):
    """A table changed, and its checksums with it: as a writer with a fault would leave it."""
    file = path / "shard-00000" / name
    array = np.load(file)
    change(array)
    head = file.read_bytes()[: 10 + int.from_bytes(file.read_bytes()[8:10], "little")]
    old = hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_bytes(head + array.tobytes())
    new = hashlib.sha256(file.read_bytes()).hexdigest()
    for listing in (path / "store.json", path / "shard-00000" / "store.json"):
        listing.write_text(listing.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("frames.npy", lambda frames: frames.__setitem__((4, 1, 2), np.nan), "coordinates must be finite, in row 4"),
        (
            "tracks.npy",
            lambda tracks: tracks["start"].__setitem__(2, 1),
            "tracks of a person must not overlap, clip 'c1'",
        ),
        ("tracks.npy", lambda tracks: tracks["row"].__setitem__(2, 0), "every row of frames must belong to one track"),
        ("text.npy", lambda text: text.__setitem__(0, 255), "the texts of clip 0 must be UTF-8"),
    ],
)
def test_verify_finds_what_a_faulty_writer_would_leave(tmp_path, small, name, change, said):
    copy = shutil.copytree(small, tmp_path / "s")
    rewritten(copy, name, change)
    with pytest.raises(ValueError, match=said):
        verify_store(copy)
