"""pyskl's pickles: what is read of other people's files, what ours hold, and that both are the same."""

import pickle

import numpy as np
import pytest
from format_cases import assert_round_trip, clip_sets, header, random_clip, read_all
from hypothesis import HealthCheck, given, settings

from asma.data.formats import pyskl

round_trip = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def annotation(name="S001C002P003R002A013", joints=25, channels=3, persons=2, frames=4, **changes):
    rng = np.random.default_rng(0)
    found = {
        "frame_dir": name,
        "label": 1,
        "total_frames": frames,
        "keypoint": rng.normal(size=(persons, frames, joints, channels)).astype(np.float16),
    }
    if channels == 2:
        found["keypoint_score"] = rng.random((persons, frames, joints)).astype(np.float16)
        found |= {"img_shape": (1080, 1920), "original_shape": (1080, 1920)}
    return found | changes


def put(path, value, protocol=2):
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_three_dimensions(protocol, tmp_path):
    """Protocol 2 is mmcv's."""
    one, other = annotation(), annotation("S001C001P008R001A060", persons=1, label=59)
    one["keypoint"][1, 1:3] = 0
    value = {"split": {"xsub_train": [one["frame_dir"]], "xsub_val": [other["frame_dir"]]}, "annotations": [one, other]}
    path = put(tmp_path / "ntu60_3danno.pkl", value, protocol)
    assert pyskl.recognise(path).startswith("pyskl pickle of ")
    source = pyskl.open_source(path)
    head = source.header
    assert (head.skeleton.name, head.channels, head.usual_split, len(head.classes)) == (
        "ntu25", "xyz", "xsub_train/xsub_val", 60
    )  # fmt: skip
    clips, left = read_all(source)
    assert not left
    clip = clips[one["frame_dir"]]
    assert (clip.frames, clip.label, clip.subject, clip.view, clip.splits) == (4, 1, 3, 2, ("xsub_train",))
    assert [(track.person, track.start, len(track.data)) for track in clip.tracks] == [(0, 0, 4), (1, 0, 1), (1, 3, 1)]
    np.testing.assert_array_equal(clip.tracks[0].data, one["keypoint"][0].astype(np.float32))
    assert clip.source == "ntu60_3danno.pkl: annotation 0 ('S001C002P003R002A013')"


@pytest.mark.parametrize(("joints", "layout"), [(17, "coco17"), (18, "openpose18"), (25, "openpose25")])
def test_two_dimensions(joints, layout, tmp_path):
    found = annotation("v_Basketball_g01_c01", joints, 2)
    source = pyskl.open_source(put(tmp_path / "hrnet.pkl", {"split": {"train1": []}, "annotations": [found]}))
    assert (source.header.skeleton.name, source.header.channels) == (layout, "xys")
    clips, _ = read_all(source)
    track = clips["v_Basketball_g01_c01"].tracks[1]
    np.testing.assert_array_equal(track.data[..., :2], found["keypoint"][1].astype(np.float32))
    np.testing.assert_array_equal(track.data[..., 2], found["keypoint_score"][1].astype(np.float32))


def test_the_older_list(tmp_path):
    source = pyskl.open_source(put(tmp_path / "train.pkl", [annotation(), annotation("b", label=0)]))
    clips, left = read_all(source)
    assert not left and [clip.splits for clip in clips.values()] == [(), ()]
    assert source.header.usual_split == "" and source.header.classes == ("drink water", "eat meal/snack")


def test_no_label_one_frame_and_nobody(tmp_path):
    nobody = annotation("nobody", frames=1, persons=1)
    nobody["keypoint"][:] = 0
    unlabelled = annotation("unlabelled")
    del unlabelled["label"]
    clips, left = read_all(pyskl.open_source(put(tmp_path / "set.pkl", [nobody, unlabelled, annotation(frames=1)])))
    assert not left
    assert (clips["nobody"].frames, clips["nobody"].tracks) == (1, ()) and clips["unlabelled"].label == -1


NOT_READ = {
    "no dict": (3, "an annotation must be a dict, got a int"),
    "no name": (annotation(frame_dir=3), "frame_dir must be the clip's name, got a int"),
    "no keypoint": (annotation(keypoint=None), "keypoint must be an array (M, T, V, C) of numbers, got nothing"),
    "list": (annotation(keypoint=[[1.0]]), "got a list"),
    "text": (annotation(keypoint=np.full((1, 4, 25, 3), "a")), "of numbers, got an array (1, 4, 25, 3) of <U1"),
    "three axes": (annotation(keypoint=np.ones((4, 25, 3))), "keypoint must be an array (M, T, V, C)"),
    "other joints": (annotation(joints=17), "keypoint must have (25, 3) joints and channels, got (17, 3)"),
    "no score": (annotation(channels=2, keypoint_score=None), "keypoint_score must be there"),
    "other score": (annotation(channels=2, keypoint_score=np.ones((2, 3, 25))), "must be an array of shape (2, 4, 25)"),
    "other frames": (annotation(total_frames=9), "total_frames must be the 4 frames of keypoint, got 9"),
    "label of text": (annotation(label="walk"), "label must be an integer, got a str"),
    "no frame": (annotation(frames=0), "a clip must have at least one frame, got none"),
    "packed": (annotation(frame_inds=[1]), "got the packed form of Kinetics-400"),
    "elsewhere": (annotation(raw_file="k.pkl"), "got the packed form of Kinetics-400"),
    "infinite": (annotation(keypoint=np.full((1, 4, 25, 3), np.inf)), "coordinates must be finite, got inf at frame 0"),
}


@pytest.mark.parametrize("case", NOT_READ)
def test_damaged_annotations_are_left_out_and_the_rest_is_kept(case, tmp_path):
    damaged, reason = NOT_READ[case]
    path = put(tmp_path / "set.pkl", [annotation("a"), damaged, annotation("b")])
    clips, (left,) = read_all(pyskl.open_source(path))
    assert set(clips) == {"a", "b"}
    assert left.source.startswith("set.pkl: annotation 1") and reason in left.reason


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "must be a list of annotations or a dict with one, got a int"),
        ({"split": {}}, "got nothing"),
        ({"annotations": {}}, "got a dict"),
        ({"annotations": [annotation()], "split": []}, "split must be a dict of lists of names, got a list"),
        ({"annotations": [annotation()], "split": {"train": "abc"}}, "got a str"),
        ({"annotations": [annotation()], "split": {"train": [1]}}, "split 'train' must be a list of names, got a int"),
        ([], "must hold annotations that can be read, there is none"),
        ([annotation(keypoint=3)], "must hold annotations that can be read, the first: keypoint must be an array"),
        ([annotation(joints=20)], "20 joints can be of several layouts"),
    ],
)
def test_files_that_are_something_else(value, message, tmp_path):
    with pytest.raises(ValueError, match="^set.pkl: ") as caught:
        pyskl.open_source(put(tmp_path / "set.pkl", value))
    assert message in str(caught.value)


def test_code_is_named(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("ran",)

    path = put(tmp_path / "set.pkl", {"annotations": [annotation(), Evil()], "split": {}}, 4)
    assert pyskl.recognise(path)
    with pytest.raises(ValueError, match=r"set.pkl: byte \d+: asks for builtins.print, which is code"):
        pyskl.open_source(path)


def test_a_source_goes_to_other_processes(tmp_path):
    value = [annotation(f"c{at}", label=at % 5) for at in range(700)]
    source = pickle.loads(pickle.dumps(pyskl.open_source(put(tmp_path / "set.pkl", value))))
    assert source.parts == ("annotations[0:512]", "annotations[512:700]")
    assert [clip.name for clip in source.read(source.parts[1])] == [f"c{at}" for at in range(512, 700)]


@round_trip
@given(clips=clip_sets(most_persons=3, nobody=True))
def test_round_trip(clips, tmp_path_factory):
    assert_round_trip(pyskl, clips, header(), tmp_path_factory.mktemp("pyskl") / "set.pkl")


@round_trip
@given(clips=clip_sets("coco17", nobody=True))
def test_round_trip_in_two_dimensions(clips, tmp_path_factory):
    assert_round_trip(pyskl, clips, header("coco17", "xys"), tmp_path_factory.mktemp("pyskl") / "set.pkl")


def test_what_is_written_is_what_others_load(tmp_path):
    clips = [random_clip("a", 3, 2, splits=("xsub_train", "mine")), random_clip("b", 2, label=-1, splits=("xsub_val",))]
    pyskl.write(clips, header(), tmp_path / "set.pkl")
    assert b"numpy._core" not in (tmp_path / "set.pkl").read_bytes(), "which NumPy 1 does not have"
    value = pickle.loads((tmp_path / "set.pkl").read_bytes())
    assert value["split"] == {"xsub_train": ["a"], "mine": ["a"], "xsub_val": ["b"]}
    first, second = value["annotations"]
    assert (first["frame_dir"], first["total_frames"], first["label"]) == ("a", 3, 0) and "label" not in second
    assert first["keypoint"].shape == (2, 3, 25, 3) and first["keypoint"].dtype == np.float32
    np.testing.assert_array_equal(first["keypoint"][1], clips[0].tracks[1].data)
    assert first["keypoint"].flags.writeable


def test_what_is_written_in_two_dimensions(tmp_path):
    clip = random_clip("a", 3, layout="coco17")
    pyskl.write([clip], header("coco17", "xys"), tmp_path / "set.pkl")
    (found,) = pickle.loads((tmp_path / "set.pkl").read_bytes())["annotations"]
    assert found["keypoint"].shape == (1, 3, 17, 2)
    np.testing.assert_array_equal(found["keypoint_score"][0], clip.tracks[0].data[..., 2])
