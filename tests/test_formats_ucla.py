"""NW-UCLA's JSON: what is read of other people's files, and what ours hold."""

import dataclasses
import json

import numpy as np
import pytest
from format_cases import assert_round_trip, clip_sets, header, random_clip, read_all
from hypothesis import HealthCheck, given, settings

from asma.data.formats import ucla

round_trip = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def put_json(path, frames=3, label=8, **changes):
    skeletons = np.random.default_rng(0).normal(size=(frames, 20, 3)).tolist()
    found = {"file_name": path.stem, "skeletons": skeletons, "label": label} | changes
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not ...}))
    return np.array(skeletons, np.float32)


def test_what_ctrgcn_shares(tmp_path):
    data = put_json(tmp_path / "a09_s03_e01_v02.json")
    put_json(tmp_path / "a01_s10_e00_v03.json", frames=1, label=1)
    assert ucla.recognise(tmp_path) == "NW-UCLA JSON, 2 clips"
    source = ucla.open_source(tmp_path)
    assert (source.header.usual_split, source.header.skeleton.name) == ("view-12-3", "ucla20")
    assert source.header.classes[7] == "doffing"
    clips, left = read_all(source)
    clip = clips["a09_s03_e01_v02"]
    # The label is not the number after the a.
    assert (clip.label, clip.subject, clip.view, clip.frames) == (7, 3, 2, 3) and not left
    np.testing.assert_array_equal(clip.tracks[0].data, data)


JSON = {
    "label 0": ({"label": 0}, "label must be an integer from 1"),
    "label of text": ({"label": "1"}, "label must be an integer from 1"),
    "label 11": ({"label": 11}, "label must be in [0, 10), one of the classes, got 10"),
    "no label": ({"label": ...}, "label must be an integer from 1"),
    "no skeletons": ({"skeletons": ...}, "skeletons must be a list, got nothing"),
    "no frame": ({"skeletons": []}, "a clip must have at least one frame, got none"),
    "joints": ({"skeletons": [[[1, 2, 3]] * 19]}, "skeletons[0] must be a list of 20, got a list of 19"),
    "axes": ({"skeletons": [[[1, 2]] * 20]}, "skeletons[0][0] must be a list of 3, got a list of 2"),
    "text": ({"skeletons": [[[1, 2, "3"]] * 20]}, "skeletons[0][0][2] must be a number, got a str"),
    "null": ({"skeletons": [[[1, 2, None]] * 20]}, "skeletons[0][0][2] must be a number, got nothing"),
    "true": ({"skeletons": [[[1, 2, True]] * 20]}, "skeletons[0][0][2] must be a number, got a bool"),
    "integer of 400 digits": (
        {"skeletons": [[[1, 2, 10**400]] * 20]},
        "skeletons must be numbers that a float can hold",
    ),
    "NaN": ({"skeletons": [[[1, 2, float("nan")]] * 20]}, "coordinates must be finite, got nan at frame 0"),
}


@pytest.mark.parametrize("case", JSON)
def test_damaged_json_is_left_out_and_the_rest_is_kept(case, tmp_path):
    changes, reason = JSON[case]
    put_json(tmp_path / "a01_s01_e00_v01.json")
    put_json(tmp_path / "a01_s01_e00_v02.json", **changes)
    clips, (left,) = read_all(ucla.open_source(tmp_path))
    assert set(clips) == {"a01_s01_e00_v01"}
    assert left.source == "a01_s01_e00_v02.json" and reason in left.reason


def test_json_that_ends_early_has_a_line(tmp_path):
    put_json(tmp_path / "a.json")
    (tmp_path / "b.json").write_text('{"label": 1,\n"skeletons": [[')
    _, (left,) = read_all(ucla.open_source(tmp_path))
    assert (left.source, left.reason[:12]) == ("b.json: line 2", "must be JSON")


@round_trip
@given(clips=clip_sets("ucla20", most_persons=1, whole=True))
def test_round_trip_of_ucla(clips, tmp_path_factory):
    assert_round_trip(ucla, clips, header("ucla20"), tmp_path_factory.mktemp("ucla") / "set")


def test_what_is_written_is_what_others_load(tmp_path):
    clip = random_clip("a08_s01_e00_v01", 3, layout="ucla20", label=2)
    ucla.write([clip], header("ucla20"), tmp_path / "set")
    found = json.loads((tmp_path / "set" / "a08_s01_e00_v01.json").read_text())
    assert (found["label"], found["file_name"]) == (3, "a08_s01_e00_v01")
    np.testing.assert_array_equal(np.array(found["skeletons"]).astype(np.float32), clip.tracks[0].data)


@pytest.mark.parametrize("layout", ["utd20", "ntu25"])
def test_joints_in_another_order_are_refused(layout, tmp_path):
    with pytest.raises(ValueError, match=f"the format holds the layout ucla20 of xyz, got '{layout}'"):
        ucla.write([random_clip("a1_s1_t1", layout=layout)], header(layout), tmp_path / "set")


def test_one_person_in_every_frame(tmp_path):
    clip = random_clip("a1_s1_t1", 4, layout="ucla20")
    gap = dataclasses.replace(clip, tracks=(clip.tracks[0]._replace(start=1, data=clip.tracks[0].data[1:]),))
    with pytest.raises(ValueError, match="somebody must be there in every frame"):
        ucla.write([gap], header("ucla20"), tmp_path / "set")
    with pytest.raises(ValueError, match="the format holds 1 person, got 2"):
        ucla.write([random_clip("a1_s1_t1", persons=2, layout="ucla20")], header("ucla20"), tmp_path / "set")
