"""PSTL's arrays: what is read of other people's files, what ours hold, and that both are the same."""

import json
import pickle
import tracemalloc

import numpy as np
import pytest
from format_cases import assert_round_trip, assert_same, clip_sets, header, random_clip, read_all
from hypothesis import HealthCheck, given, settings

from asma.data.formats import pstl
from asma_kernels import Skeleton

round_trip = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def put(folder, side, data, labels, kind="position"):
    np.save(folder / f"{side}_{kind}.npy", data)
    if isinstance(labels, np.ndarray):
        np.save(folder / f"{side}_label.npy", labels)
    else:
        (folder / f"{side}_label.pkl").write_bytes(pickle.dumps(labels))


@pytest.fixture
def arrays(tmp_path):
    """Three clips of 5, 2 and 4 frames; the second person is there in frames 1 and 2 of the first clip only."""
    data = np.random.default_rng(0).normal(size=(3, 3, 5, 25, 2)).astype(np.float32)
    data[..., 1] = 0
    data[0, :, 1:3, :, 1] = 1
    data[1, :, 2:] = 0
    data[2, :, 4:] = 0
    return data


NAMES = ["S001C002P003R002A001.skeleton", "S001C001P008R001A002.skeleton", "S001C003P008R001A001.skeleton"]


def test_what_aimclr_writes(arrays, tmp_path):
    put(tmp_path, "train", arrays, (NAMES, [0, 1, 0]))
    assert pstl.recognise(tmp_path) == "PSTL arrays, 3 clips in train_position.npy"
    source = pstl.open_source(tmp_path)
    assert source.header.skeleton == Skeleton.builtin("ntu25") and source.header.channels == "xyz"
    clips, left = read_all(source)
    assert not left
    first = clips["S001C002P003R002A001"]
    assert (first.frames, first.label, first.subject, first.view, first.splits) == (5, 0, 3, 2, ("train",))
    assert first.source == "train_position.npy[0]"
    assert [(track.person, track.start, len(track.data)) for track in first.tracks] == [(0, 0, 5), (1, 1, 2)]
    np.testing.assert_array_equal(first.tracks[0].data, arrays[0, ..., 0].transpose(1, 2, 0))
    assert [clips[name.removesuffix(".skeleton")].frames for name in NAMES] == [5, 2, 4]


@pytest.mark.parametrize(
    "labels",
    [
        (NAMES, [0, 1, 2]), [NAMES, [0, 1, 2]], (NAMES, np.array([0, 1, 2])), (NAMES, [0.0, 1.0, np.float64(2)]),
        ([name.encode() for name in NAMES], [0, 1, 2]), [0, 1, 2], np.array([0, 1, 2]), np.array([[0], [1], [2]]),
        (np.array(NAMES), [np.int64(0), np.int32(1), np.uint8(2)]),
    ],
)  # fmt: skip
def test_labels_of_every_kind(labels, arrays, tmp_path):
    put(tmp_path, "val", arrays, labels)
    clips, left = read_all(pstl.open_source(tmp_path))
    assert not left and [clip.label for clip in clips.values()] == [0, 1, 2]


def test_sides_become_splits(arrays, tmp_path):
    folder = tmp_path / "xsub"
    folder.mkdir()
    put(folder, "val", arrays[:1], (["c"], [0]))
    put(folder, "train", arrays[1:], (["a", "b"], [1, 0]))
    source = pstl.open_source(folder)
    assert source.header.usual_split == "xsub_train/xsub_val"
    clips, _ = read_all(source)
    assert [(clip.name, clip.splits) for clip in clips.values()] == [
        ("a", ("xsub_train",)), ("b", ("xsub_train",)), ("c", ("xsub_val",))
    ]  # fmt: skip


def test_one_kind_of_a_folder_is_read_and_one_file_if_it_is_named(arrays, tmp_path):
    put(tmp_path, "train", arrays, ([*"abc"], [0, 1, 2]), "data")
    put(tmp_path, "train", arrays[:, :, :2], ([*"abc"], [0, 1, 2]))
    assert read_all(pstl.open_source(tmp_path))[0]["a"].frames == 2
    assert pstl.recognise(tmp_path / "train_data.npy") == "PSTL arrays, 3 clips in train_data.npy"
    assert read_all(pstl.open_source(tmp_path / "train_data.npy"))[0]["a"].frames == 5


def test_layouts_by_joints_option_and_asma_json(tmp_path):
    for joints, layout, channels in ((18, "openpose18", "xys"), (17, "coco17", "xys"), (20, "utd20", "xyz")):
        folder = tmp_path / str(joints)
        folder.mkdir()
        put(folder, "all", np.ones((1, 3, 1, joints, 2), np.float32), (["a"], [0]))
        if joints == 20:
            with pytest.raises(ValueError, match="20 joints can be of several layouts, name one"):
                pstl.open_source(folder)
            assert pstl.open_source(folder, layout="ucla20").header.skeleton.name == "ucla20"
            (folder / "asma.json").write_text('{"layout": "utd20", "classes": ["walk"]}')
            assert pstl.open_source(folder).header.classes == ("walk",)
        source = pstl.open_source(folder)
        assert (source.header.skeleton.name, source.header.channels) == (layout, channels)
    with pytest.raises(ValueError, match="layout 'coco17' has 17 joints, got 20"):
        pstl.open_source(tmp_path / "20", layout="coco17")
    with pytest.raises(ValueError, match="layout must be one of"):
        pstl.open_source(tmp_path / "20", layout="nonsense")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (([*"ab"], [0, 1]), "train_label.pkl: must have a name and a label for each of 3 clips"),
        (([*"abc"], [0, 1, 0.5]), "entry 2: a label must be an integer, got 0.5"),
        (([*"abc"], [0, 1, float("inf")]), "entry 2: a label must be an integer, got inf"),
        (([*"abc"], [0, 1, "x"]), "entry 2: a label must be an integer, got str"),
        (([*"abc"], [0, 1, [[[1]]]]), "entry 2: a label must be an integer, got list"),
        (([1, 2, 3], [0, 1, 2]), "entry 0: a name must be a string, got int"),
        ({"a": 1}, "entry 0: a label must be an integer, got dict"),
        (np.zeros((3, 2), int), r"train_label.npy: must be an array of shape \(any\) or \(any, 1\)"),
        (np.zeros(3), "train_label.npy: must hold integers, got float64"),
    ],
)
def test_labels_that_do_not_fit(labels, message, arrays, tmp_path):
    put(tmp_path, "train", arrays, labels)
    with pytest.raises(ValueError, match=message):
        pstl.open_source(tmp_path)


@pytest.mark.parametrize("shape", [(3, 3, 5, 25), (3, 2, 5, 25, 2), (3, 3, 5, 25, 3), (0,)])
def test_arrays_of_other_shapes(shape, tmp_path):
    put(tmp_path, "train", np.zeros(shape, np.float32), ([*"abc"], [0, 1, 2]))
    assert pstl.recognise(tmp_path) is None
    with pytest.raises(
        ValueError, match="train_position.npy: (must be an array of shape|the last axis must be 2 persons)"
    ):
        pstl.open_source(tmp_path)


def test_empty_side_clip_without_a_body_and_labels_out_of_range(arrays, tmp_path):
    put(tmp_path, "val", arrays[:0], ([], []))
    arrays[1] = 0
    put(tmp_path, "train", arrays, ([*"abc"], [0, 1, 10**12]))
    clips, (empty, far) = read_all(pstl.open_source(tmp_path))
    assert set(clips) == {"a"}
    assert empty.source == "train_position.npy[1]" and "got zeros only" in empty.reason
    assert "label must be in [0, 2)" in far.reason


def test_a_name_twice_is_left_out_twice(arrays, tmp_path):
    put(tmp_path, "train", arrays, (["a", "b", "a"], [0, 1, 2]))
    clips, left = read_all(pstl.open_source(tmp_path))
    assert set(clips) == {"b"} and len(left) == 2


def test_arrays_stay_on_the_disk(tmp_path):
    """One part of a large array is looked at; the rest is not read."""
    data = np.lib.format.open_memmap(tmp_path / "train_data.npy", "w+", np.float32, (2000, 3, 300, 25, 2))
    data[:, :, :2] = 1
    data.flush()
    (tmp_path / "train_label.pkl").write_bytes(pickle.dumps(([f"{i}" for i in range(2000)], [0] * 2000)))
    tracemalloc.start()
    source = pstl.open_source(tmp_path)
    clips = list(source.read(source.parts[3]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert clips[0].name == "768" and len(clips) == 256
    assert peak < 20_000_000 < (tmp_path / "train_data.npy").stat().st_size
    again = pickle.loads(pickle.dumps(source))  # as another process gets it
    assert_same(next(iter(again.read(again.parts[3]))), clips[0])


@round_trip
@given(clips=clip_sets())
def test_round_trip(clips, tmp_path_factory):
    assert_round_trip(pstl, clips, header(), tmp_path_factory.mktemp("pstl") / "set")


@round_trip
@given(clips=clip_sets("openpose18", sides=("xsub_train", "xsub_val")))
def test_round_trip_with_sides(clips, tmp_path_factory):
    head = header("openpose18", "xys", usual_split="xsub_train/xsub_val")
    assert_round_trip(pstl, clips, head, tmp_path_factory.mktemp("pstl") / "xsub")


def test_what_is_written_is_what_others_load(tmp_path):
    clips = [random_clip("a", 3, 2, splits=("tr",)), random_clip("b", 300, label=2, seed=1, splits=("te",))]
    pstl.write(clips, header(usual_split="tr/te"), tmp_path / "set")
    assert sorted(file.name for file in (tmp_path / "set").iterdir()) == [
        "asma.json", "te_data.npy", "te_label.pkl", "tr_data.npy", "tr_label.pkl"
    ]  # fmt: skip
    data = np.load(tmp_path / "set" / "tr_data.npy")
    assert data.shape == (1, 3, 300, 25, 2) and data.dtype == np.float32
    np.testing.assert_array_equal(data[0, :, :3, :, 1].transpose(1, 2, 0), clips[0].tracks[1].data)
    assert not data[0, :, 3:].any()
    assert pickle.loads((tmp_path / "set" / "te_label.pkl").read_bytes()) == (["b"], [2])
    assert json.loads((tmp_path / "set" / "asma.json").read_text())["classes"] == ["sit", "stand", "walk"]


@pytest.mark.parametrize("splits", [(), ("tr", "te"), ("other",)])
def test_a_clip_must_be_on_one_side(splits, tmp_path):
    with pytest.raises(ValueError, match="clip 'a': must be on one side of tr/te"):
        pstl.write([random_clip("a", splits=splits)], header(usual_split="tr/te"), tmp_path / "set")


def test_no_clip_is_no_set(tmp_path):
    with pytest.raises(ValueError, match="there must be a clip to write, got none"):
        pstl.write([], header(), tmp_path / "set")
