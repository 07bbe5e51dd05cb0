"""Clip sets: what they hold, how they are cut, resampled, saved and loaded, and what they refuse."""

import json
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asma.data import ClipSet, builtin_clips, load_clips, open_clips, save_clips
from asma_kernels.skeleton import Skeleton

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
CHAIN = Skeleton.from_edges([(0, 1), (1, 2)], names=["hip", "chest", "head"], centre=1, name="chain")


def make(lengths=(4, 1, 7), seed=0, **changes):
    rng = np.random.default_rng(seed)
    count = len(lengths)
    fields = {
        "data": rng.normal(size=(sum(lengths), 3, 3)).astype(np.float32),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]),
        "label": np.arange(count) % 2,
        "subject": np.arange(count) % 4 + 1,
        "view": np.arange(count) % 3 + 1,
        "name": np.array([f"a{i}" for i in range(count)]),
        "classes": ("sit", "stand"),
        "skeleton": CHAIN,
        "title": "made",
    }
    return ClipSet(**(fields | changes))


def same(one, other):
    """Equal in every field, bit for bit."""
    arrays = ("data", "offsets", "label", "subject", "view", "name")
    rest = ("classes", "skeleton", "title", "usual_split")
    return all(
        np.array_equal(getattr(one, field), getattr(other, field))
        and getattr(one, field).dtype.kind == getattr(other, field).dtype.kind
        for field in arrays
    ) and all(getattr(one, field) == getattr(other, field) for field in rest)


clip_lengths = st.lists(st.integers(1, 9), min_size=1, max_size=8)


def test_a_clip_is_a_view_of_its_frames():
    clips = make((4, 1, 7))
    assert len(clips) == 3
    assert clips.lengths.tolist() == [4, 1, 7]
    assert np.array_equal(clips.clip(2), clips.data[5:12])
    assert np.shares_memory(clips.clip(1), clips.data)


def test_types_are_normalised():
    clips = make(data=np.zeros((12, 3, 3), np.float64), label=np.array([0, 1, 0], np.int8), name=["x", "y", "z"])
    assert clips.data.dtype == np.float32
    assert clips.label.dtype == np.int64
    assert clips.name.tolist() == ["x", "y", "z"]


@pytest.mark.parametrize("index", [3, -1, 10**12, 1.5, "a0", None])
def test_clip_refuses_what_is_no_clip(index):
    with pytest.raises(ValueError, match="ClipSet.clip: "):
        make().clip(index)


@settings(deadline=None)
@given(lengths=clip_lengths, data=st.data())
def test_subset_holds_the_chosen_clips_in_order(lengths, data):
    clips = make(lengths)
    index = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=12))
    part = clips.subset(index)
    assert part.name.tolist() == [f"a{i}" for i in index]
    assert part.label.tolist() == [clips.label[i] for i in index]
    for new, old in enumerate(index):
        assert np.array_equal(part.clip(new), clips.clip(old))


def test_subset_takes_booleans_and_copies():
    clips = make()
    part = clips.subset(clips.lengths > 1)
    assert part.name.tolist() == ["a0", "a2"]
    part.data[:] = 0
    assert clips.data.any()


@pytest.mark.parametrize("index", [[], [3], [-1], [True], [0.5], ["a0"], [[0]]])
def test_subset_refuses(index):
    with pytest.raises(ValueError, match="ClipSet"):
        make().subset(index)


def test_split_by_protocol():
    clips = make((1,) * 12)
    train, test = clips.split("subject-odd-even")
    assert set(train.subject) == {1, 3} and set(test.subject) == {2, 4}
    train, test = clips.split("view-12-3")
    assert set(train.view) == {1, 2} and set(test.view) == {3}
    train, test = clips.split("subject-1,4-rest")
    assert set(train.subject) == {1, 4} and set(test.subject) == {2, 3}
    train, test = clips.split("subject-1-2")
    assert len(train) + len(test) == 6


def test_split_by_field_is_a_partition():
    clips = make((1,) * 12)
    train, test = clips.split_by("subject", [2, 99])
    assert set(train.subject) == {2} and set(test.subject) == {1, 3, 4}
    assert sorted(train.name.tolist() + test.name.tolist()) == sorted(clips.name.tolist())


@pytest.mark.parametrize(
    "protocol", ["", "subject", "subject-odd", "camera-1-2", "view-12-9", "view-1-12", "view-a-b", "view--3",
                 "view-1,-2", "subject-odd-even-rest", "subject-rest-odd", "subject-١-2"]
)  # fmt: skip
def test_split_refuses(protocol):
    with pytest.raises(ValueError, match="ClipSet.split: "):
        make((1,) * 12).split(protocol)


@pytest.mark.parametrize(("field", "values"), [("name", ["a0"]), ("view", []), ("view", [1, 2, 3]), ("view", [1.5])])
def test_split_by_refuses(field, values):
    with pytest.raises(ValueError, match="ClipSet.split_by: "):
        make((1,) * 12).split_by(field, values)


@settings(deadline=None)
@given(lengths=clip_lengths, frames=st.integers(1, 20))
def test_resample_is_linear_interpolation(lengths, frames):
    clips = make(lengths)
    out = clips.resample(frames)
    assert out.shape == (len(lengths), 3, frames, 3, 1)
    assert out.dtype == np.float32 and out.flags.c_contiguous
    for i, length in enumerate(lengths):
        at = np.linspace(0, length - 1, frames)
        for joint in range(3):
            for axis in range(3):
                expected = np.interp(at, np.arange(length), clips.clip(i)[:, joint, axis])
                np.testing.assert_allclose(out[i, axis, :, joint, 0], expected, atol=2e-6)


@settings(deadline=None)
@given(length=st.integers(1, 200))
def test_resample_to_the_own_length_changes_nothing(length):
    clips = make((length,))
    assert np.array_equal(clips.resample(length)[0, :, :, :, 0].transpose(1, 2, 0), clips.data)


def test_resample_does_not_depend_on_neighbours():
    clips = make(tuple(np.random.default_rng(0).integers(1, 6, 1100)))
    whole = clips.resample(7)
    for i in (0, 511, 512, 513, 1099):
        assert np.array_equal(whole[i], clips.subset([i]).resample(7)[0])


@pytest.mark.parametrize("frames", [0, -3, 2.0, True, "8", None])
def test_resample_refuses(frames):
    with pytest.raises(ValueError, match="ClipSet.resample: frames must be a positive integer"):
        make().resample(frames)


def broken_data(value):
    data = np.zeros((12, 3, 3), np.float32)
    data[4, 2, 1] = value
    return data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": [0, 31, 1]}, r"label must be in \[0, 2\), got 31 at clip 'a1'"),
        ({"label": [0, 1, -1]}, r"label must be in \[0, 2\), got -1 at clip 'a2'"),
        ({"label": [0, 1]}, r"label must have 3 entries, one a clip, got shape \(2,\)"),
        ({"label": [0.0, 1.0, 0.0]}, "label must be an array of integers, got float64"),
        ({"name": [0, 1, 2]}, "name must be an array of strings"),
        ({"subject": [[1], [1, 2], [3]]}, "subject must be an array of integers"),
        ({"offsets": [0, 4, 4, 12]}, "offsets must increase with every clip, got no frame at clip 'a1'"),
        ({"offsets": [0, 6, 5, 12]}, "offsets must increase with every clip, got 5 after 6 at clip 'a1'"),
        ({"offsets": [0, 4, 5, 11]}, "offsets must run from 0 to 12 frames, got 0 to 11"),
        ({"offsets": [1, 4, 5, 12]}, "offsets must run from 0 to 12 frames, got 1 to 12"),
        ({"offsets": [0]}, "offsets must have one number more than there are clips"),
        ({"data": np.zeros((12, 4, 3))}, r"data must be \(frames, 3 joints, 3\), got shape \(12, 4, 3\)"),
        ({"data": np.zeros((12, 3, 3), int)}, "data must be an array of real numbers, got int64"),
        ({"data": broken_data(np.nan)}, r"must be finite, got nan at clip 'a1', frame 0, joint 2 \('head'\)"),
        ({"data": broken_data(-np.inf)}, r"must be finite, got -inf at clip 'a1'"),
        ({"data": broken_data(0).astype(np.float64) + 1e300}, "must be finite, got inf at clip 'a0'"),
        ({"classes": ()}, "classes must be a list of at least one string"),
        ({"classes": "sit"}, "classes must be a list of at least one string"),
        ({"classes": 2}, "classes must be a list of at least one string"),
        ({"skeleton": "ntu25"}, "skeleton must be an asma_kernels Skeleton, got str"),
    ],
)
def test_a_broken_set_is_refused_with_its_reason(changes, message):
    with pytest.raises(ValueError, match="ClipSet: .*" + message):
        make(**changes)


@pytest.mark.parametrize(
    "clips",
    [
        make(title="Füße", classes=("gehen", "歩く"), usual_split="in words"),
        make(skeleton=Skeleton.from_edges([(0, 1), (1, 2), (2, 0)], names=["left", "right", "mid"], parents=[0, 0, 0])),
        make(skeleton=Skeleton.from_edges([(0, 1), (0, 2)], names=["hip", "left", "right"], flip=[0, 2, 1])),
        builtin_clips(classes=2, subjects=2, views=1, repeats=1),
    ],
    ids=["unicode", "cycle", "flip", "builtin"],
)
def test_saving_and_loading_gives_an_equal_set(tmp_path, clips):
    save_clips(tmp_path / "set.npz", clips)
    assert same(load_clips(tmp_path / "set.npz"), clips)
    assert sorted(os.listdir(tmp_path)) == ["set.json", "set.npz"]


def test_a_failed_save_leaves_the_old_set(tmp_path, monkeypatch):
    old = make(seed=1)
    save_clips(tmp_path / "set.npz", old)

    def full_disk(file, **arrays):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_clips(tmp_path / "set.npz", make(seed=2))
    assert sorted(os.listdir(tmp_path)) == ["set.json", "set.npz"]
    assert same(load_clips(tmp_path / "set.npz"), old)


def test_save_refuses_other_names_and_missing_folders(tmp_path):
    with pytest.raises(ValueError, match=r"save_clips: a file must end in \.npz"):
        save_clips(tmp_path / "set.npy", make())
    with pytest.raises(FileNotFoundError, match="save_clips: the folder must exist"):
        save_clips(tmp_path / "nowhere" / "set.npz", make())


def write(folder, arrays=None, header=None, drop=()):
    """A set on disk with some entries replaced or left out."""
    save_clips(folder / "set.npz", make())
    with np.load(folder / "set.npz") as archive:
        entries = dict(archive) | (arrays or {})
    head = json.loads((folder / "set.json").read_text(encoding="utf-8")) | (header or {})
    np.savez(folder / "set.npz", **{key: value for key, value in entries.items() if key not in drop})
    (folder / "set.json").write_text(json.dumps({key: value for key, value in head.items() if key not in drop}))
    return folder / "set.npz"


@pytest.mark.parametrize("missing", ["set.npz", "set.json"])
def test_a_missing_file_is_named(tmp_path, missing):
    path = write(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"load_clips: .*{missing}"):
        load_clips(path)


@pytest.mark.parametrize("key", ["data", "offsets", "label", "subject", "name", "classes", "joints", "edges", "centre"])
def test_a_missing_entry_is_named(tmp_path, key):
    with pytest.raises(ValueError, match=f"load_clips: .* it lacks {key}"):
        load_clips(write(tmp_path, drop=(key,)))


def test_view_and_the_optional_entries_may_be_missing(tmp_path):
    clips = load_clips(write(tmp_path, drop=("view", "split", "layout", "flip", "parents")))
    assert clips.view.tolist() == [0, 0, 0]


def test_a_flip_is_read_off_left_and_right(tmp_path):
    edges, joints = [[0, 1], [0, 2]], ["hip", "foot_left", "foot_right"]
    path = write(tmp_path, header={"edges": edges, "joints": joints, "centre": 0}, drop=("flip", "layout"))
    assert load_clips(path).skeleton.flip == (0, 2, 1)


@pytest.mark.parametrize(
    ("arrays", "header", "message"),
    [
        ({"label": np.array([0, 1, 27])}, {}, r"label must be in \[0, 2\), got 27 at clip 'a2'"),
        ({"data": broken_data(np.nan)}, {}, "must be finite, got nan at clip 'a1'"),
        ({"offsets": np.array([0, 4, 4, 12])}, {}, "got no frame at clip 'a1'"),
        ({"data": np.zeros((12, 5, 3), np.float32)}, {}, r"data must be \(frames, 3 joints, 3\)"),
        ({"name": np.array([{"a": 1}] * 3, dtype=object)}, {}, "must be an .npz without pickled objects"),
        ({}, {"edges": [[0, 1], [1, 3]]}, "edges and centre must make a skeleton, but .*joint 3 is unknown"),
        ({}, {"edges": [[0, 1, 2]]}, "must make a skeleton"),
        ({}, {"edges": 7}, "must make a skeleton"),
        ({}, {"centre": 3}, "must make a skeleton, but .*centre 3 is unknown"),
        ({}, {"centre": "hip"}, "must make a skeleton"),
        ({}, {"joints": 3}, "must make a skeleton"),
        ({}, {"joints": ["hip"]}, "must make a skeleton"),
        ({}, {"flip": [1, 2, 0]}, "must make a skeleton"),
        ({}, {"classes": 2}, "classes must be a list"),
        ({}, {"classes": [1, 2]}, "classes must be a list"),
    ],
)
def test_a_broken_file_is_refused_with_its_reason(tmp_path, arrays, header, message):
    with pytest.raises(ValueError, match=f"load_clips: .*{message}") as caught:
        load_clips(write(tmp_path, arrays, header))
    assert "set.npz" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "header", "message"),
    [
        ({"splits": np.ones((2, 3), bool)}, {"splits": ["train"]}, "one name in the json for each row of splits"),
        ({}, {"splits": ["train"]}, "one name in the json for each row of splits"),
        ({}, {"splits": "train"}, "one name in the json for each row of splits"),
        ({"splits": np.ones((1, 2), bool)}, {"splits": ["train"]}, "split 'train' must be 3 booleans, one a clip, got"),
        ({"splits": np.ones((1, 3), int)}, {"splits": ["train"]}, "split 'train' must be 3 booleans"),
        ({"splits": np.ones((1, 3), bool)}, {"splits": [""]}, "splits must be a mapping from names"),
        ({"splits": np.ones((1, 3), bool)}, {"splits": [7]}, "splits must be a mapping from names"),
    ],
)
def test_broken_splits_are_refused(tmp_path, arrays, header, message):
    with pytest.raises(ValueError, match=f"load_clips: .*{message}"):
        load_clips(write(tmp_path, arrays, header))


def test_splits_of_its_own_are_saved_and_loaded(tmp_path):
    splits = {"train": np.array([True, False, True]), "Füße": np.array([False, True, False])}
    save_clips(tmp_path / "set.npz", make(splits=splits, usual_split="train/Füße"))
    clips = load_clips(tmp_path / "set.npz")
    assert clips.split_names == ("train", "Füße") and clips.usual_split == "train/Füße"
    assert [part.name.tolist() for part in clips.split("train/Füße")] == [["a0", "a2"], ["a1"]]
    assert clips.subset([2, 1]).members("train").tolist() == [True, False]
    with pytest.raises(ValueError, match="ClipSet.split: 'train/train' must not have a clip on both sides, got 'a0'"):
        clips.split("train/train")
    with pytest.raises(ValueError, match="its splits are none"):
        make().split("train/test")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    """At a thousandth of the size, to save the test's memory."""
    monkeypatch.setattr("asma.data.clip_file.BOMB", 1 << 20)
    path = write(tmp_path)
    np.savez_compressed(path, data=np.zeros((300_000, 3, 3), np.float32), offsets=0, label=0, subject=0, name="a")
    assert path.stat().st_size < 50_000
    with pytest.raises(ValueError, match=r"must be an \.npz .*data.npy unpacks from [0-9]+ to 10800128 bytes"):
        load_clips(path)


def test_persons_beside_the_one_are_zeros():
    clips = make()
    out = clips.resample(5, 2, [2, 0])
    assert np.array_equal(out[..., :1], clips.resample(5)[[2, 0]]) and not out[..., 1].any()
    with pytest.raises(ValueError, match="ClipSet.resample: persons must be a positive integer, got 0"):
        clips.resample(5, 0)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "{'a': 1}", "[" * 100_000])
def test_a_json_that_is_none_is_refused(tmp_path, text):
    path = write(tmp_path)
    path.with_suffix(".json").write_text(text)
    with pytest.raises(ValueError, match="load_clips: .*JSON"):
        load_clips(path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = write(tmp_path)
    path.with_suffix(".json").write_bytes(b'{"name": "\xff"}')
    with pytest.raises(ValueError, match="load_clips: .*must be JSON"):
        load_clips(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + b"\x00" * 100])
def test_an_npz_that_is_none_is_refused(tmp_path, content):
    path = write(tmp_path)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"load_clips: .*must be an \.npz"):
        load_clips(path)


def npy_header(shape):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


NO_ARRAYS = [b"", b"hello", *map(npy_header, [(12, 3, 3), (10**15, 3, 3), (-1, 3, 3), "x"])]


@pytest.mark.parametrize("key", ["data", "label"])
@pytest.mark.parametrize("content", NO_ARRAYS)
def test_an_entry_that_is_no_array_is_refused(tmp_path, key, content):
    path = write(tmp_path, drop=(key,))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{key}.npy", content)
    with pytest.raises(ValueError, match="load_clips: "):
        load_clips(path)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_damaged_npz_is_read_or_refused_in_one_sentence(data):
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder))
        content = bytearray(path.read_bytes())
        if data.draw(st.booleans()):
            content = content[: data.draw(st.integers(0, len(content)))]
        for _ in range(data.draw(st.integers(0, 4)) if content else 0):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(bytes(content))
        try:
            load_clips(path)
        except ValueError as error:
            assert str(error).startswith("load_clips: ")


def test_load_refuses_other_names(tmp_path):
    with pytest.raises(ValueError, match=r"load_clips: a file must end in \.npz"):
        load_clips(tmp_path / "set.pkl")


def test_open_clips_knows_the_builtin_set_and_files(tmp_path):
    clips = open_clips("builtin:seed=3,classes=2,subjects=2,repeats=1")
    assert same(clips, builtin_clips(seed=3, classes=2, subjects=2, repeats=1))
    save_clips(tmp_path / "set.npz", clips)
    assert same(open_clips(tmp_path / "set.npz"), clips)
    assert same(open_clips(str(tmp_path / "set.npz")), clips)


def test_open_clips_names_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.npz"):
        open_clips(tmp_path / "nothing.npz")


@pytest.mark.parametrize(
    ("file", "count", "classes", "layout", "protocol", "train"),
    [
        ("utd_mhad.npz", 861, 27, "utd20", "subject-odd-even", None),
        ("nw_ucla.npz", 1484, 10, "ucla20", "view-12-3", 1020),
    ],
)
def test_real_data(file, count, classes, layout, protocol, train):
    if not (SHARED / file).is_file():
        pytest.skip(f"{file} is not in ../shared/data; its owners do not allow it in the project")
    clips = load_clips(SHARED / file)
    assert (len(clips), len(clips.classes), clips.skeleton.name) == (count, classes, layout)
    sides = clips.split(protocol)
    assert len(sides[0]) + len(sides[1]) == count
    assert train is None or len(sides[0]) == train
    assert np.isfinite(clips.resample(32)).all()
