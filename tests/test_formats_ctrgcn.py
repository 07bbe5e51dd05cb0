"""CTR-GCN's npz: what is read of other people's files, what ours hold, and that both are the same."""

import json
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
from format_cases import assert_round_trip, assert_same, clip_sets, header, random_clip, read_all
from hypothesis import HealthCheck, given, settings

from asma.data.formats import ctrgcn

round_trip = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def rows(count=3, frames=6, seed=0):
    """(N, T, 150) of two persons; the last frame of each clip is padding."""
    data = np.random.default_rng(seed).normal(size=(count, frames, 150)).astype(np.float32)
    data[:, -1] = 0
    return data


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_ctrgcn_writes(save, tmp_path):
    x, y = rows(), np.eye(60)[[3, 59, 0]]
    x[1, 2, 75:] = 0
    save(tmp_path / "NTU60_CS.npz", x_train=x[:2], y_train=y[:2], x_test=x[2:], y_test=y[2:])
    assert ctrgcn.recognise(tmp_path / "NTU60_CS.npz") == "CTR-GCN .npz, 3 clips"
    source = ctrgcn.open_source(tmp_path / "NTU60_CS.npz")
    assert (source.header.usual_split, len(source.header.classes)) == ("train/test", 60)
    clips, left = read_all(source)
    assert not left
    assert [(c.name, c.frames, c.label, c.splits, c.subject) for c in clips.values()] == [
        ("train_0", 5, 3, ("train",), -1), ("train_1", 5, 59, ("train",), -1), ("test_0", 5, 0, ("test",), -1)
    ]  # fmt: skip
    clip = clips["train_1"]
    assert [(track.person, track.start, len(track.data)) for track in clip.tracks] == [(0, 0, 5), (1, 0, 2), (1, 3, 2)]
    np.testing.assert_array_equal(clip.tracks[0].data, x[1, :5, :75].reshape(5, 25, 3))
    np.testing.assert_array_equal(clip.tracks[2].data, x[1, 3:5, 75:].reshape(2, 25, 3))


@pytest.mark.parametrize("sides", ["train", "test"])
def test_a_side_may_be_empty_or_absent(sides, tmp_path):
    x, y = rows(), np.eye(3)
    other = "test" if sides == "train" else "train"
    np.savez(tmp_path / "one.npz", **{f"x_{sides}": x, f"y_{sides}": y})
    np.savez(tmp_path / "two.npz", **{f"x_{sides}": x, f"y_{sides}": y, f"x_{other}": x[:0], f"y_{other}": y[:0]})
    for name in ("one", "two"):
        clips, left = read_all(ctrgcn.open_source(tmp_path / f"{name}.npz"))
        assert len(clips) == 3 and not left


def test_inner_zero_frames_stay_and_are_nobody(tmp_path):
    x = rows()
    x[0, 1] = 0
    np.savez(tmp_path / "set.npz", x_train=x, y_train=np.eye(3))
    clips, _ = read_all(ctrgcn.open_source(tmp_path / "set.npz"))
    assert clips["train_0"].frames == 5
    assert [(track.start, len(track.data)) for track in clips["train_0"].tracks if track.person == 0] == [
        (0, 1),
        (2, 3),
    ]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(3)}, "must hold x_train and y_train, or x_test and y_test"),
        ({"x_train": rows()}, "set.npz/y_train.npy: the archive must have this member"),
        ({"x_train": rows()[..., :75], "y_train": np.eye(3)}, r"shape \(any, any, 150\), got \(3, 6, 75\)"),
        ({"x_train": rows()[0], "y_train": np.eye(3)}, r"shape \(any, any, 150\), got \(6, 150\)"),
        ({"x_train": rows(), "y_train": np.eye(4)}, r"shape \(3, any\), got \(4, 4\)"),
        ({"x_train": rows(), "y_train": np.arange(3)}, r"shape \(3, any\), got \(3,\)"),
        ({"x_train": rows().astype(np.int64), "y_train": np.eye(3)}, "must hold floating point numbers, got int64"),
        ({"x_train": rows(), "y_train": np.zeros((3, 20_000))}, "must have at most 10000 classes, got 20000"),
        ({"x_train": np.asfortranarray(rows()), "y_train": np.full((3, 1), "a")}, "must hold numbers, got <U1"),
    ],
)
def test_arrays_that_do_not_fit(arrays, message, tmp_path):
    np.savez(tmp_path / "set.npz", **arrays)
    assert ctrgcn.recognise(tmp_path / "set.npz") is None
    with pytest.raises(ValueError, match=message):
        ctrgcn.open_source(tmp_path / "set.npz")


def test_classes_that_are_not_one_hot_leave_the_clip_out(tmp_path):
    y = np.eye(3)
    y[0], y[1] = 0, 1
    np.savez(tmp_path / "set.npz", x_train=rows(), y_train=y)
    clips, left = read_all(ctrgcn.open_source(tmp_path / "set.npz"))
    assert set(clips) == {"train_2"}
    assert [item.reason for item in left] == [
        "y_train must be one-hot, got 0 classes that are not 0", "y_train must be one-hot, got 3 classes that are not 0"
    ]  # fmt: skip


def test_fortran_order_is_mapped_and_refused_where_it_is_compressed(tmp_path):
    x = rows()
    np.savez(tmp_path / "a.npz", x_train=np.asfortranarray(x), y_train=np.eye(3))
    clips, _ = read_all(ctrgcn.open_source(tmp_path / "a.npz"))
    np.testing.assert_array_equal(clips["train_0"].tracks[0].data, x[0, :5, :75].reshape(5, 25, 3))
    np.savez_compressed(tmp_path / "b.npz", x_train=np.asfortranarray(x), y_train=np.eye(3))
    with pytest.raises(ValueError, match="a compressed array must be in C order"):
        ctrgcn.open_source(tmp_path / "b.npz")


@pytest.mark.parametrize("compressed", [False, True])
def test_memory_holds_a_part(compressed, tmp_path):
    """90 MB of clips; a part that is mapped, or a block of what is unpacked, is all that is in memory."""
    x = np.zeros((500, 300, 150), np.float32)
    x[:, :3] = np.arange(500)[:, None, None] + 1
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "set.npz", x_train=x, y_train=np.ones((500, 1)))
    del x
    tracemalloc.start()
    source = ctrgcn.open_source(tmp_path / "set.npz")
    assert len(source.parts) == (1 if compressed else 2)
    for clip in source.read(source.parts[-1]):
        assert clip.tracks[0].data.max() == int(clip.name.removeprefix("train_")) + 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (40_000_000 if compressed else 2_000_000)
    if not compressed:
        again = pickle.loads(pickle.dumps(source))
        assert_same(next(iter(again.read(again.parts[1]))), next(iter(source.read(source.parts[1]))))


def test_an_archive_that_does_not_begin_at_its_beginning(tmp_path):
    """Zip archives may have something before them: offsets are those of the members, not of the file's start."""
    np.savez(tmp_path / "inner.npz", x_train=rows(), y_train=np.eye(3))
    (tmp_path / "set.npz").write_bytes(b"#!/bin/sh\n" * 7 + (tmp_path / "inner.npz").read_bytes())
    clips, _ = read_all(ctrgcn.open_source(tmp_path / "set.npz"))
    for name, clip in read_all(ctrgcn.open_source(tmp_path / "inner.npz"))[0].items():
        assert_same(clip, clips[name])


@round_trip
@given(clips=clip_sets())
def test_round_trip(clips, tmp_path_factory):
    assert_round_trip(ctrgcn, clips, header(), tmp_path_factory.mktemp("ctrgcn") / "set.npz")


@round_trip
@given(clips=clip_sets(sides=("xview_train", "xview_val")))
def test_round_trip_with_sides(clips, tmp_path_factory):
    head = header(usual_split="xview_train/xview_val")
    assert_round_trip(ctrgcn, clips, head, tmp_path_factory.mktemp("ctrgcn") / "set.npz")


def test_what_is_written_is_what_others_load(tmp_path):
    clips = [random_clip("a", 4, 2, label=2, splits=("tr",)), random_clip("b", 300, splits=("te",), seed=1)]
    ctrgcn.write(clips, header(usual_split="tr/te"), tmp_path / "set.npz")
    with np.load(tmp_path / "set.npz") as found:
        assert found["x_train"].shape == (1, 300, 150) and found["x_train"].dtype == np.float32
        np.testing.assert_array_equal(found["y_train"], [[0, 0, 1]])
        np.testing.assert_array_equal(found["x_train"][0, :4, 75:].reshape(4, 25, 3), clips[0].tracks[1].data)
        np.testing.assert_array_equal(found["x_test"][0, :, :75].reshape(300, 25, 3), clips[1].tracks[0].data)
    with zipfile.ZipFile(tmp_path / "set.npz") as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED} and archive.testzip() is None
    beside = json.loads((tmp_path / "set.asma.json").read_text())
    assert beside["clips"]["train_0"]["name"] == "a"
    ctrgcn.write(clips[:1], header(), tmp_path / "one.npz")
    with np.load(tmp_path / "one.npz") as found:
        assert found["x_test"].shape == (0, 300, 150) and found["y_test"].shape == (0, 3)


def test_other_skeletons_and_names_of_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="the format holds 25 joints of xyz, got 20 of xyz"):
        ctrgcn.write([random_clip(layout="utd20")], header("utd20"), tmp_path / "set.npz")
    with pytest.raises(ValueError, match="a file must end in .npz, got 'set.zip'"):
        ctrgcn.write([random_clip()], header(), tmp_path / "set.zip")
    assert list(tmp_path.iterdir()) == []
