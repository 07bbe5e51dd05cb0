"""MediaPipe's landmarks in JSON and CSV: what people write of its results, and what ours hold."""

import json

import numpy as np
import pytest
from format_cases import assert_round_trip, clip_sets, header, random_clip, read_all
from hypothesis import HealthCheck, given, settings

from asma.data.formats import mediapipe

round_trip = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
DATA = np.random.default_rng(0).normal(size=(4, 33, 3)).astype(np.float32).round(3)


def marks(pose, **others):
    return [{"x": float(x), "y": float(y), "z": float(z), "visibility": 0.9} | others for x, y, z in pose]


LAYOUTS = {
    "tasks": [{"pose_landmarks": [marks(pose * 9)], "pose_world_landmarks": [marks(pose)]} for pose in DATA],
    "tasks, image only": [{"pose_landmarks": [marks(pose)]} for pose in DATA],
    "solutions": [{"pose_world_landmarks": {"landmark": marks(pose)}} for pose in DATA],
    "one pose": {"frames": [{"pose_landmarks": marks(pose, presence=1)} for pose in DATA]},
    "javascript": [{"landmarks": [marks(pose * 2)], "worldLandmarks": [marks(pose)]} for pose in DATA],
    "lists": [{"poseLandmarks": pose.astype(float).tolist()} for pose in DATA],
    "lists with visibility": [{"poseLandmarks": [[*map(float, mark), 0.5] for mark in pose]} for pose in DATA],
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_json_of_every_kind(case, tmp_path):
    (tmp_path / "wave.json").write_text(json.dumps(LAYOUTS[case]))
    assert (
        mediapipe.recognise(tmp_path) == "MediaPipe landmarks, 1 clips" == mediapipe.recognise(tmp_path / "wave.json")
    )
    source = mediapipe.open_source(tmp_path)
    assert (source.header.skeleton.name, source.header.channels) == ("mediapipe33", "xyz")
    clips, left = read_all(source)
    assert not left
    np.testing.assert_array_equal(clips["wave"].tracks[0].data, DATA)


def csv(first=1, columns=(), rows=DATA, empty=()):
    names = [f"{axis}{joint + first}" for joint in range(33) for axis in "xyzv"]
    lines = [",".join([*columns, *names])]
    for at, pose in enumerate(rows):
        values = ["" if at in empty else f"{value:.3f}" for mark in pose for value in (*mark, 0.9)]
        lines.append(",".join([*(str(column(at)) for column in columns.values()), *values] if columns else values))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("first", [0, 1])
def test_csv(first, tmp_path):
    (tmp_path / "wave.csv").write_text(csv(first))
    (tmp_path / "late.csv").write_text(csv(first, {"class": lambda at: "wave", "frame": lambda at: 3 + 2 * at}))
    (tmp_path / "gone.csv").write_text(csv(first, empty=(1, 2)))
    assert mediapipe.recognise(tmp_path) == "MediaPipe landmarks, 3 clips"
    clips, left = read_all(mediapipe.open_source(tmp_path))
    assert not left
    np.testing.assert_array_equal(clips["wave"].tracks[0].data, DATA)
    assert clips["late"].frames == 7 and [track.start for track in clips["late"].tracks] == [0, 2, 4, 6]
    assert clips["gone"].frames == 4 and [track.start for track in clips["gone"].tracks] == [0, 3]


def test_people(tmp_path):
    """Two who swap their places in the list; world landmarks alone would not tell them apart."""
    left, right = DATA[0] * 0.01 + 0.2, DATA[1] * 0.01 + 0.8
    frames = []
    for at in range(4):
        pair = [(left, DATA[0]), (right, DATA[1])][:: 1 if at % 2 else -1]
        frames.append({"pose_landmarks": [marks(image) for image, _ in pair],
                       "pose_world_landmarks": [marks(world) for _, world in pair]})  # fmt: skip
    frames.insert(2, None)
    frames.append({"pose_landmarks": [], "pose_world_landmarks": []})
    (tmp_path / "two.json").write_text(json.dumps(frames))
    (clip,) = read_all(mediapipe.open_source(tmp_path))[0].values()
    assert clip.frames == 6
    assert [(track.person, track.start, len(track.data)) for track in clip.tracks] == [
        (0, 0, 2), (0, 3, 2), (1, 0, 2), (1, 3, 2)
    ]  # fmt: skip
    assert all(len(np.unique(track.data, axis=0)) == 1 for track in clip.tracks)


def one(**changes):
    """JSON of one frame."""
    return json.dumps([{"pose_landmarks": marks(DATA[0])} | changes])


FIRST = f"{DATA[1, 0, 0]:.3f}"
DAMAGED = {
    "no list": ("{}", "must be a list of frames, or an object with one, got a dict"),
    "frame of text": ('["a"]', "must be an object with pose_world_landmarks or pose_landmarks, got a str"),
    "no landmarks": ('[{"face": 1}]', "must be an object with pose_world_landmarks"),
    "32 landmarks": (one(pose_landmarks=marks(DATA[0][:32])), "must be a list of 33, got a list of 32"),
    "no z": (one(pose_landmarks=[{"x": 1, "y": 2}] * 33), "pose 0[0][2] must be a number, got nothing"),
    "text": (one(pose_landmarks=[["1", 2, 3]] * 33), "must be"),
    "person of text": (one(person="a"), "person must be a list of 1 integers, got a str"),
    "two persons": (one(person=[0, 1]), "person must be a list of 1 integers, got a list of 2"),
    "csv without z33": (csv().replace("z33", "z99"), "must have columns x1 to z33, there is no z33"),
    "csv field": (csv().replace("0.900\n", "0.900,7\n", 1), "must have 132 fields, got 133"),
    "csv text": (csv().replace(FIRST, "abc", 1), "column x1: must be a number, got 'abc'"),
    "csv quote": (csv() + '"', "must be CSV, but"),
    "csv frame": (csv(1, {"frame": lambda at: -at}), "column frame must be an integer from 0, got '-1'"),
    "csv far frame": (csv(1, {"frame": lambda at: at * 10**9}), "frames must be numbered one after the other"),
    "csv inf": (csv().replace(FIRST, "1e309", 1), "coordinates must be finite, got inf at frame 1, joint 0"),
    "csv half": (csv().replace(FIRST, "", 1), "coordinates must be finite, got nan at frame 1, joint 0"),
    "csv empty": (csv().split("\n")[0], "a clip must have at least one frame, got none"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_are_left_out_and_the_rest_is_kept(case, tmp_path):
    text, reason = DAMAGED[case]
    (tmp_path / "good.json").write_text(json.dumps(LAYOUTS["tasks"]))
    (tmp_path / f"bad.{'csv' if case.startswith('csv') else 'json'}").write_text(text)
    clips, (left,) = read_all(mediapipe.open_source(tmp_path))
    assert set(clips) == {"good"} and left.source.startswith("bad.") and reason in left.reason


@round_trip
@given(clips=clip_sets("mediapipe33", most_persons=3, nobody=True))
def test_round_trip(clips, tmp_path_factory):
    assert_round_trip(mediapipe, clips, header("mediapipe33"), tmp_path_factory.mktemp("mediapipe") / "set")


def test_other_skeletons_are_refused(tmp_path):
    with pytest.raises(ValueError, match="the format holds the layout mediapipe33 of xyz, got 'ntu25' of xyz"):
        mediapipe.write([random_clip()], header(), tmp_path / "set")
