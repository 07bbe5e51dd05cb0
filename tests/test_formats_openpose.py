"""OpenPose's JSON: frames, people, who is who, and what ours hold."""

import dataclasses
import json

import numpy as np
import pytest
from format_cases import assert_round_trip, clip_sets, header, random_clip, read_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asma.data.formats import openpose
from asma.data.formats._people import Pose, follow

round_trip = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def person(x, joints=25, seed=0, **others):
    """Somebody 100 pixels high whose nose is about at x."""
    body = np.random.default_rng(seed).random((joints, 3)) * [40, 100, 0.5] + [x, 200, 0.5]
    return {"person_id": [-1], "pose_keypoints_2d": body.ravel().round(3).tolist()} | others


def put(folder, frames, name="video"):
    folder.mkdir(parents=True, exist_ok=True)
    for at, people in frames.items():
        (folder / f"{name}_{at:012}_keypoints.json").write_text(json.dumps({"version": 1.3, "people": people}))


@pytest.mark.parametrize(("joints", "layout"), [(25, "openpose25"), (18, "openpose18"), (17, "coco17")])
def test_what_openpose_writes(joints, layout, tmp_path):
    put(tmp_path / "video", {0: [], 1: [person(10, joints)], 2: [person(12, joints)], 5: [person(15, joints)]})
    assert openpose.recognise(tmp_path) == "OpenPose JSON, 1 clips"
    source = openpose.open_source(tmp_path)
    assert (source.header.skeleton.name, source.header.channels) == (layout, "xys")
    clips, left = read_all(source)
    clip = clips["video"]
    # Frames without a file are frames without a body.
    assert clip.frames == 6 and not left
    assert [(track.person, track.start, len(track.data)) for track in clip.tracks] == [(0, 1, 2), (0, 5, 1)]
    expected = np.array(person(10, joints)["pose_keypoints_2d"], np.float32).reshape(joints, 3)
    np.testing.assert_array_equal(clip.tracks[0].data[0], expected)


def test_people_are_followed_whatever_their_order(tmp_path):
    """Two walk towards each other and pass, a third comes for a moment, the first is missed for three frames."""
    frames = {}
    for at in range(30):
        people = [person(10 * at, seed=1), person(300 - 10 * at, seed=2)]
        if 10 <= at < 12:
            people.append(person(900, seed=3))
        if 5 <= at < 8:
            del people[0]
        frames[at] = people[::-1] if at % 2 else people
    put(tmp_path / "video", frames)
    clips, _ = read_all(openpose.open_source(tmp_path))
    found = [(track.person, track.start, len(track.data)) for track in clips["video"].tracks]
    assert found == [(0, 0, 5), (0, 8, 22), (1, 0, 30), (2, 10, 2)]
    for track in clips["video"].tracks[:3]:
        way = np.diff(track.data[:, :, 0].mean(1))
        assert (np.abs(way - (10, -10)[track.person]) < 1e-3).all()


def test_openpose_s_own_tracking_is_believed(tmp_path):
    frames = {
        0: [person(0, seed=1, person_id=[7]), person(500, seed=2, person_id=[3])],
        1: [person(0, seed=1, person_id=[3]), person(500, seed=2, person_id=[7])],
    }
    put(tmp_path / "video", frames)
    (clip,) = read_all(openpose.open_source(tmp_path))[0].values()
    assert [track.person for track in clip.tracks] == [0, 1]
    assert clip.tracks[1].data[0, 0, 0] < 50 and clip.tracks[1].data[1, 0, 0] > 450


@settings(deadline=None, max_examples=25)
@given(st.lists(st.permutations(range(3)), min_size=2, max_size=6), st.integers(0, 5))
def test_people_who_stand_still_stay_who_they_are(orders, seed):
    rng = np.random.default_rng(seed)
    bodies = rng.random((3, 25, 2)) * 100 + np.arange(3)[:, None, None] * 300 + 1
    frames = [[Pose(bodies[who], bodies[who] + rng.normal(size=(25, 2))) for who in order] for order in orders]
    first = {who: number for who, number in zip(orders[0], range(3), strict=True)}
    assert follow(frames) == [[first[who] for who in order] for order in orders]


def test_joints_and_people_that_were_not_found(tmp_path):
    half = person(10)
    half["pose_keypoints_2d"][30:] = [0] * 45
    nobody = person(10, pose_keypoints_2d=[0] * 75)
    put(tmp_path / "video", {0: [half, nobody], 1: [{"pose_keypoints_2d": []}, half]})
    (clip,) = read_all(openpose.open_source(tmp_path))[0].values()
    (track,) = clip.tracks
    assert track.data.shape == (2, 25, 3) and not track.data[:, 10:].any()


def test_folders(tmp_path):
    """Of clips, of several clips in one folder, of classes, and one clip alone."""
    put(tmp_path / "flat" / "a", {0: [person(0)]}, "x")
    put(tmp_path / "flat" / "b", {0: [person(0)]}, "one")
    put(tmp_path / "flat" / "b", {0: [person(0)]}, "two")
    put(tmp_path / "classes" / "wave" / "c1", {3: [person(0)]})
    put(tmp_path / "classes" / "clap" / "c1", {3: [person(0)]})
    assert set(read_all(openpose.open_source(tmp_path / "flat"))[0]) == {"a", "b/one", "b/two"}
    source = openpose.open_source(tmp_path / "classes")
    clips, _ = read_all(source)
    assert source.header.classes == ("clap", "wave")
    assert {name: (clip.label, clip.frames) for name, clip in clips.items()} == {"clap/c1": (0, 1), "wave/c1": (1, 1)}
    assert set(read_all(openpose.open_source(tmp_path / "flat" / "b"))[0]) == {"one", "two"}


DAMAGED = {
    "no people": ({"version": 1}, "must be an object with a list of people"),
    "a list": ([], "must be an object with a list of people"),
    "people of numbers": ({"people": [3]}, "must be an object with a list of people"),
    "few numbers": ([1.0] * 74, "people[0].pose_keypoints_2d must be a list of 75, got a list of 74"),
    "no numbers": (None, "people[0].pose_keypoints_2d must be a list of 75, got nothing"),
    "text": (["1"] * 75, "people[0].pose_keypoints_2d[0] must be a number, got a str"),
    "crowd": ({"people": [person(at) for at in range(257)]}, "at most 256 people, got 257 in frame 1"),
    "one person twice": ({"people": [person(at, person_id=[1]) for at in (0, 9)]}, "a frame must have a person once"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_frame_leaves_its_clip_out_and_the_rest_is_kept(case, tmp_path):
    frame, reason = DAMAGED[case]
    if not isinstance(frame, dict) and case != "a list":
        frame = {"people": [{"pose_keypoints_2d": frame}]}
    own = {"person_id": [1]} if case == "one person twice" else {}
    put(tmp_path / "good", {0: [person(0)]})
    put(tmp_path / "bad", {0: [person(0, **own)], 1: []})
    (tmp_path / "bad" / "video_000000000001_keypoints.json").write_text(json.dumps(frame))
    clips, (left,) = read_all(openpose.open_source(tmp_path))
    assert set(clips) == {"good"} and left.source.startswith("bad") and reason in left.reason


def test_numbers_far_apart_are_no_video(tmp_path):
    put(tmp_path / "video", {0: [person(0)], 10**11: [person(0)]})
    _, (left,) = read_all(openpose.open_source(tmp_path))
    assert left.reason == "frames must be numbered one after the other, got 0 to 100000000000 and gaps"


@round_trip
@given(clips=clip_sets("openpose25", most_persons=3, nobody=True))
def test_round_trip(clips, tmp_path_factory):
    assert_round_trip(openpose, clips, header("openpose25", "xys"), tmp_path_factory.mktemp("openpose") / "set")


def test_persons_without_a_first_one_are_refused(tmp_path):
    clip = random_clip("a", layout="coco17", persons=2)
    with pytest.raises(ValueError, match="clip 'a': persons must be numbered from 0 without a gap"):
        openpose.write([dataclasses.replace(clip, tracks=clip.tracks[1:])], header("coco17", "xys"), tmp_path / "set")
    with pytest.raises(
        ValueError, match="the format holds the layout openpose25 or openpose18 or coco17 of xys, got 'ntu25' of xyz"
    ):
        openpose.write([random_clip()], header(), tmp_path / "set")
