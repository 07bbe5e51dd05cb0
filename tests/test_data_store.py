"""Stores: what goes in comes out, by any way of asking; what is damaged or half written is refused in one sentence."""

import hashlib
import json
import os
import pickle
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import stores
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import CHAIN, HEADER, clip, same_clip, write

from asma.data import (
    UNKNOWN,
    Clip,
    ClipSet,
    Header,
    StoreWriter,
    Track,
    open_clips,
    open_store,
    store_writer,
    verify_store,
)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """For the disk, which none of these tests can see the use of."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(store_writer, "SHARD_CLIPS", 3)


@st.composite
def spans(draw, length, most_persons=3):
    """Tracks of a clip as (person, start, length): none of a person overlaps, some are absent for a while."""
    found = []
    for person in range(draw(st.integers(0, most_persons))):
        start = draw(st.integers(0, length - 1))
        while start < length:
            count = draw(st.integers(1, length - start))
            found.append((person, start, count))
            start += count + draw(st.integers(0, 3))
    return found


@st.composite
def clip_lists(draw, most=6):
    made = []
    for number in range(draw(st.integers(1, most))):
        length = draw(st.integers(1, 9))
        label, subject = (draw(st.integers(UNKNOWN, 1)) for _ in range(2))
        name = draw(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5))
        splits = tuple(draw(st.sets(st.sampled_from(["train", "val", "Füße"]))))
        one = clip(number, length, draw(spans(length)), label=label, subject=subject, splits=splits)
        made.append(Clip(**(vars(one) | {"name": f"{number}{name}"})))
    return made


@settings(max_examples=40, deadline=None)
@given(made=clip_lists())
def test_what_goes_in_comes_out(made):
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(write(Path(folder) / "s", made))
        verify_store(Path(folder) / "s")
        assert len(store) == len(made) and store.name.tolist() == [each.name for each in made]
        assert all(same_clip(store.as_clip(i), each) for i, each in enumerate(made))
        assert store.lengths.tolist() == [each.frames for each in made]
        assert store.label.tolist() == [each.label for each in made]
        assert store.subject.tolist() == [each.subject for each in made]
        assert store.view.tolist() == [each.view for each in made]
        for name in store.split_names:
            assert store.members(name).tolist() == [name in each.splits for each in made]


def dense(one, persons):
    """(M, T, V, C) and who is there, frame by frame."""
    out, there = np.zeros((persons, one.frames, 3, 3), np.float32), np.zeros((persons, one.frames), bool)
    for person, start, data in one.tracks:
        for frame, joints in enumerate(data, start):
            if person < persons:
                out[person, frame], there[person, frame] = joints, True
    return out, there


@settings(max_examples=40, deadline=None)
@given(made=clip_lists(), frames=st.integers(1, 12), persons=st.integers(1, 3))
def test_resampling_frame_by_frame(made, frames, persons):
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(write(Path(folder) / "s", made))
        out = store.resample(frames, persons)
        assert out.shape == (len(made), 3, frames, 3, persons) and out.dtype == np.float32
        for number, one in enumerate(made):
            whole, there = dense(one, persons)
            most = max((track.person + 1 for track in one.tracks), default=1)
            np.testing.assert_array_equal(store.clip(number), dense(one, most)[0])
            for person in range(persons):
                for frame in range(frames):
                    at = frame * (one.frames - 1) / max(frames - 1, 1)
                    low, high = int(at + 1e-9), min(int(at + 1e-9) + 1, one.frames - 1)
                    here = there[person, [low, high]]
                    nearer = low if at - low <= 0.5 + 1e-9 else high
                    expected = whole[person, low] + (whole[person, high] - whole[person, low]) * (at - low)
                    expected = expected if here.all() else whole[person, nearer]
                    np.testing.assert_allclose(out[number, :, frame, :, person].T, expected, atol=2e-6)


def test_one_person_is_resampled_as_by_a_clip_set_bit_for_bit(tmp_path, small_shards):
    lengths = np.random.default_rng(0).integers(1, 40, 700)
    data = stores.frames(int(lengths.sum()))
    offsets = np.append(0, np.cumsum(lengths))
    numbers = np.arange(700)
    names = [f"c{i}" for i in numbers]
    clips = ClipSet(data, offsets, numbers % 2, numbers, numbers, names, HEADER.classes, CHAIN, "made")
    made = (Clip(names[i], int(lengths[i]), (Track(0, 0, clips.clip(i)),), i % 2) for i in numbers)
    store = open_store(write(tmp_path / "s", made))
    assert np.array_equal(store.resample(16), clips.resample(16))
    index = [600, 3, 3, 511]
    assert np.array_equal(store.resample(16, 2, index), clips.resample(16, 2, index))
    assert np.array_equal(store.subset(index).resample(16), store.resample(16, index=index))


def test_a_subset_is_a_view_and_can_be_pickled(tmp_path, small_shards):
    store = open_store(write(tmp_path / "s", [clip(i) for i in range(10)]))
    part = store.subset([9, 0, 9])
    assert part.name.tolist() == ["c9", "c0", "c9"] and part.label.tolist() == [1, 0, 1]
    assert np.shares_memory(part.tracks(0)[0].data, store.tracks(9)[0].data)
    assert np.shares_memory(part.subset([1]).tracks(0)[0].data, store.tracks(0)[0].data)
    assert part.shard_of.tolist() == [3, 0, 3]
    again = pickle.loads(pickle.dumps(part))
    assert np.array_equal(again.resample(4), part.resample(4)) and again.name.tolist() == part.name.tolist()
    assert part.checksum() == again.checksum() != store.checksum()
    for index in ([], [10], [-1], [0.5], ["c0"]):
        with pytest.raises(ValueError, match=r"Store\.subset: "):
            store.subset(index)
    for index in (10, -1, None, 1.5):
        with pytest.raises(ValueError, match=r"Store\.clip: |Store\.tracks: "):
            store.clip(index)


def test_splits(tmp_path, small_shards):
    sides = [("xsub_train",), ("xsub_val",), (), ("xsub_train", "both"), ("xsub_val", "both")]
    made = [clip(i, splits=sides[i % 5], subject=[1, 2, 3, -1][i % 4]) for i in range(20)]
    store = open_store(write(tmp_path / "s", made))
    assert set(store.split_names) == {"xsub_train", "xsub_val", "both"}
    train, test = store.split("xsub_train/xsub_val")
    assert [name for side in (train, test) for name in side.name] == [
        f"c{i}" for rests in ((0, 3), (1, 4)) for i in range(20) if i % 5 in rests
    ]
    # Nobody knows which side a clip of an unknown subject is on.
    for protocol in ("subject-odd-even", "subject-13-rest"):
        train, test = store.split(protocol)
        assert set(train.subject) == {1, 3} and set(test.subject) == {2}
    for protocol, said in (
        ("xsub_train/both", "must not have a clip on both sides, got 'c3'"),
        ("xsub_train/xset", "its splits are xsub_train, xsub_val, both"),
        ("a/b/c", "must be two splits of the set"),
        ("view-1-7", "the test side must have a clip, view here is 1, 2, 3"),
    ):
        with pytest.raises(ValueError, match=rf"Store\.split: .*{said}"):
            store.split(protocol)


def test_a_shard_is_a_store_and_a_machine_needs_only_its_own(tmp_path, small_shards):
    path = write(tmp_path / "s", [clip(i) for i in range(10)])
    assert open_store(path / "shard-00001").name.tolist() == ["c3", "c4", "c5"]
    verify_store(path / "shard-00001")
    shutil.rmtree(path / "shard-00000")
    assert open_store(path, shards=[3, 1]).name.tolist() == ["c9", "c3", "c4", "c5"]
    with pytest.raises(FileNotFoundError, match="shard-00000/frames.npy' must be there, store.json lists it"):
        open_store(path)
    for shards in ([], [4], [1, 1], [-1], [True], ["shard-00001"]):
        with pytest.raises(ValueError, match=r"open_store: shards must be different numbers in \[0, 4\)"):
            open_store(path, shards)


def test_files_are_plain_npy(tmp_path):
    path = write(tmp_path / "s", [clip(0), clip(1, 3)])
    assert np.load(path / "shard-00000" / "frames.npy").shape == (9, 3, 3)
    assert np.load(path / "shard-00000" / "clips.npy")["frames"].tolist() == [6, 3]


def test_half_precision_is_as_near_as_said(tmp_path):
    for most, error in ((1, 0.00025), (2, 0.0005), (4, 0.001), (8, 0.002)):
        data = np.random.default_rng(0).uniform(-most, most, (400, 3, 3)).astype(np.float32)
        path = write(tmp_path / f"{most}", [Clip("a", 400, (Track(0, 0, data),))], dtype="float16")
        store = open_store(path)
        assert store.clip(0).dtype == np.float32 and store.dtype == "float16"
        assert 0.9 * error < np.abs(store.clip(0)[0] - data).max() <= error
        verify_store(path)


def broken(value, frame=2):
    data = stores.frames(6)
    data[frame, 1, 2] = value
    return (Track(0, 0, data),)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tracks": broken(np.nan)}, "coordinates must be finite in float16, got nan in frame 2 of person 0, joint 1"),
        ({"tracks": broken(-np.inf)}, "coordinates must be finite in float16, got -inf"),
        ({"tracks": broken(70_000)}, "coordinates must be finite in float16, got 70000.0"),
        ({"label": 2}, r"label must be in \[-1, 1\], got 2"),
        ({"label": -2}, "label must be in"),
        ({"source": "x" * 5000}, r"the bytes of name and source must be in \[0, 4096\], got 5000"),
        ({"subject": -5}, "subject must be in"),
        ({"view": 2**63}, "view must be in"),
        ({"frames": 0}, "frames must be in"),
        ({"frames": 2**40}, "frames must be in"),
        ({"frames": 5}, r"start must be in \[0, -1\], got 0"),
        ({"tracks": (Track(64, 0, stores.frames(2)),)}, r"person must be in \[0, 63\], got 64"),
        ({"tracks": (Track(-1, 0, stores.frames(2)),)}, "person must be in"),
        ({"tracks": (Track(0, -1, stores.frames(2)),)}, "start must be in"),
        ({"tracks": (Track(0, 5, stores.frames(2)),)}, r"start must be in \[0, 4\], got 5"),
        (
            {"tracks": (Track(0, 3, stores.frames(2)), Track(0, 0, stores.frames(4)))},
            r"start must be in \[4, 4\], got 3",
        ),
        ({"tracks": (Track(0, 0, stores.frames(0)),)}, r"a track must be \(F, 3, 3\) numbers, got float32 \(0, 3, 3\)"),
        ({"tracks": (Track(0, 0, stores.frames(2, joints=4)),)}, r"a track must be \(F, 3, 3\) numbers"),
        ({"tracks": (Track(0, 0, np.array([["x"]])),)}, r"a track must be \(F, 3, 3\) numbers"),
        ({"splits": tuple(map(str, range(64)))}, "a shard must have at most 63 splits, got 64"),
    ],
)
def test_a_clip_that_breaks_a_rule_is_left_out_and_listed(tmp_path, changes, said):
    bad = Clip(**(vars(clip(1)) | {"name": "bad"} | changes))
    with StoreWriter(tmp_path / "s", HEADER, "float16") as writer:
        assert writer.add(clip(0)) is None
        left_out = writer.add(bad)
        assert writer.add(clip(2)) is None
    assert left_out.source == bad.source
    (line,) = (tmp_path / "s" / "left_out.jsonl").read_text().splitlines()
    assert json.loads(line) == vars(left_out)
    assert re.fullmatch(f"{said}.*; clip 'bad'", left_out.reason), left_out.reason
    assert open_store(tmp_path / "s").name.tolist() == ["c0", "c2"]
    verify_store(tmp_path / "s")


def test_names_that_are_no_text_are_written_out(tmp_path):
    store = open_store(write(tmp_path / "s", [Clip("a\udcff", 1, (), source="b\udc80")]))
    assert (store.name[0], store.as_clip(0).source) == ("a\\udcff", "b\\udc80")
    assert store.clip(0).shape == (1, 1, 3, 3) and not store.resample(4, 2).any()


def test_the_header_comes_back(tmp_path):
    header = Header("Füße", CHAIN, "xys", ("gehen", "歩く"), "a/b")
    store = open_clips(write(tmp_path / "s", [clip(0)], header, provenance={"format": "made"}))
    assert store.header == header and store.channels == "xys" and store.provenance["format"] == "made"
    assert (store.title, store.classes, store.skeleton, store.usual_split) == ("Füße", ("gehen", "歩く"), CHAIN, "a/b")


def test_an_error_on_the_way_leaves_nothing(tmp_path, small_shards):
    def stop(*_):
        raise OSError("no space left on device")

    for error in (KeyboardInterrupt, OSError):
        with pytest.raises(error), StoreWriter(tmp_path / "s", HEADER) as writer:
            for number in range(5):
                writer.add(clip(number))
            raise error
    none = pytest.raises(ValueError, match="must have at least one clip, got none: label must be .*; clip 'c0'")
    with none, StoreWriter(tmp_path / "s", HEADER) as writer:
        writer.add(clip(0, label=9))
    assert os.listdir(tmp_path) == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", stop)
        with pytest.raises(OSError, match="no space"):
            write(tmp_path / "s", [clip(0)])
    assert os.listdir(tmp_path) == []


def test_nothing_is_overwritten_unless_told_and_then_only_a_store(tmp_path):
    write(tmp_path / "s", [clip(0)])
    with pytest.raises(FileExistsError, match="is there already"):
        write(tmp_path / "s", [clip(1)])
    assert open_store(tmp_path / "s").name.tolist() == ["c0"]
    write(tmp_path / "s", [clip(1)], overwrite=True)
    assert open_store(tmp_path / "s").name.tolist() == ["c1"]
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("home", "file"):
        with pytest.raises(FileExistsError, match="is there already and is no store"):
            write(tmp_path / name, [clip(1)], overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["file", "home", "s"]
    for options, said in (({"dtype": "int8"}, "dtype must be one of float32, float16, got 'int8'"),):
        with pytest.raises(ValueError, match=said):
            write(tmp_path / "t", [clip(0)], **options)
    with pytest.raises(FileNotFoundError, match="the folder must exist"):
        write(tmp_path / "gone" / "s", [clip(0)])


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
