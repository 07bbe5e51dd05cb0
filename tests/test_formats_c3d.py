"""C3D: markers as joints by asma.json, what the cameras lost, and what is refused."""

import json
import sys

import numpy as np
import pytest
from format_cases import read_all

from asma.data.formats import c3d
from asma.extras import MissingExtraError

package = pytest.importorskip("c3d", reason="c3d is not installed")
LABELS = ["Anna:HEAD", "Anna:LASI", "Anna:RASI", "TOE"]
pytestmark = pytest.mark.filterwarnings("ignore:No analog data found")


def put(path, frames=5, seed=0, labels=LABELS):
    points = np.zeros((frames, len(labels), 5), np.float32)
    points[..., :3] = np.random.default_rng(seed).normal(size=(frames, len(labels), 3)) * 100
    writer = package.Writer(point_rate=100)
    writer.set_point_labels(labels)
    points[2, 1, 3] = -1  # lost by the cameras
    writer.add_frames([(frame, np.zeros((0, 0))) for frame in points])
    with open(path, "wb") as file:
        writer.write(file)
    return points[..., :3]


@pytest.fixture
def walk(tmp_path):
    put(tmp_path / "walk.c3d")
    beside = {"joints": ["RASI", "HEAD", "Anna:LASI"], "edges": [[0, 1], [0, 2]], "classes": ["run", "walk"],
              "clips": {"walk": {"label": "walk", "subject": 3}}}  # fmt: skip
    (tmp_path / "asma.json").write_text(json.dumps(beside))
    return tmp_path


def test_markers_become_joints(walk):
    points = put(walk / "walk.c3d")
    assert c3d.recognise(walk) == "C3D, 1 clips"
    source = c3d.open_source(walk)
    assert source.header.skeleton.names == ("RASI", "HEAD", "Anna:LASI")
    clips, left = read_all(source)
    clip = clips["walk"]
    assert (clip.label, clip.subject, clip.frames) == (1, 3, 5) and not left
    data = clip.tracks[0].data
    np.testing.assert_array_equal(data[:, :2], points[:, [2, 0]])
    assert not data[2, 2].any() and data[[0, 1, 3, 4], 2].all()


def test_without_edges_there_is_no_skeleton(walk):
    (walk / "asma.json").unlink()
    with pytest.raises(
        ValueError, match="C3D has no bones, so asma.json beside it must have joints and edges"
    ) as caught:
        c3d.open_source(walk)
    assert str(caught.value).endswith("the markers of walk.c3d are Anna:HEAD, Anna:LASI, Anna:RASI, TOE")


def test_a_marker_that_is_missing_or_twice_leaves_the_clip_out(walk):
    put(walk / "b.c3d", labels=["Anna:HEAD", "Anna:LASI", "Bea:RASI", "Anna:RASI"])
    put(walk / "c.c3d", labels=["HEAD", "Anna:LASI", "TOE", "HEEL"])
    clips, left = read_all(c3d.open_source(walk))
    assert set(clips) == {"walk"}
    rule = "a joint must be one of the markers, 'RASI' is"
    assert [item.reason for item in left] == [f"{rule} 2 of them", f"{rule} none of them"]


def test_a_file_that_ends_early_is_left_out(walk):
    raw = (walk / "walk.c3d").read_bytes()
    (walk / "b.c3d").write_bytes(raw[: len(raw) - 600])
    clips, (left,) = read_all(c3d.open_source(walk))
    assert set(clips) == {"walk"} and left.source == "b.c3d"
    assert "must be a C3D file, but" in left.reason


def test_a_package_that_is_missing_is_named(walk, monkeypatch):
    monkeypatch.setitem(sys.modules, "c3d", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'asma-kernels\[data\]'"):
        c3d.open_source(walk)
