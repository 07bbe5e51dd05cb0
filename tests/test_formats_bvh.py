"""BVH: joints of the tree, positions by forward kinematics, and what is refused with its line."""

import numpy as np
import pytest
from format_cases import read_all

from asma.data.formats import bvh

TREE = """HIERARCHY
ROOT Hips
{
	OFFSET 1.0 2.0 3.0
	CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation
	JOINT Left Leg
	{
		OFFSET 1 -4 0.5
		CHANNELS 3 Yrotation Xrotation Zrotation
		End Site
		{
			OFFSET 0 -4 2
		}
	}
	JOINT RightLeg
	{
		OFFSET -1 -4 0.5
		CHANNELS 3 Xrotation Yrotation Zrotation
		End Site
		{
			OFFSET 0 -4 2
		}
	}
}
MOTION
Frames: 4
Frame Time: 0.033333
"""
CHANNELS = 12


def motion(frames=4, seed=0):
    return np.random.default_rng(seed).normal(size=(frames, CHANNELS)).round(4) * 50


def text(values, tree=TREE):
    return tree + "\n".join(" ".join(f"{value:.4f}" for value in row) for row in values) + "\n"


def turn(axis, degrees):
    """By the textbook, one axis at a time."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array(
        {
            "X": [[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]],
            "Y": [[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]],
            "Z": [[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]],
        }[axis]
    )


def positions_by_hand(row):
    hips = row[:3]
    hip_turn = turn("Z", row[3]) @ turn("Y", row[4]) @ turn("X", row[5])
    left = hips + hip_turn @ [1, -4, 0.5]
    left_turn = hip_turn @ turn("Y", row[6]) @ turn("X", row[7]) @ turn("Z", row[8])
    right = hips + hip_turn @ [-1, -4, 0.5]
    right_turn = hip_turn @ turn("X", row[9]) @ turn("Y", row[10]) @ turn("Z", row[11])
    end = np.array([0, -4, 2])
    return np.array([hips, left, left + left_turn @ end, right, right + right_turn @ end])


@pytest.fixture
def walk(tmp_path):
    (tmp_path / "walk.bvh").write_text(text(motion()))
    return tmp_path


def test_joints_and_positions(walk):
    assert bvh.recognise(walk) == "BVH, 1 clips" == bvh.recognise(walk / "walk.bvh")
    source = bvh.open_source(walk)
    skeleton = source.header.skeleton
    assert skeleton.names == ("Hips", "Left Leg", "Left Leg_end", "RightLeg", "RightLeg_end")
    assert skeleton.parents == (0, 0, 1, 0, 3) and source.header.channels == "xyz"
    clips, left = read_all(source)
    expected = np.array([positions_by_hand(row) for row in motion()])
    np.testing.assert_allclose(clips["walk"].tracks[0].data, expected, atol=1e-4)
    assert clips["walk"].label == -1 and not left


def test_sides_are_mirrored_by_their_names(tmp_path):
    (tmp_path / "a.bvh").write_text(text(motion(), TREE.replace("Left Leg", "LeftLeg")))
    assert bvh.open_source(tmp_path).header.skeleton.flip == (0, 3, 4, 1, 2)


def test_folders_are_classes(tmp_path):
    for kind in ("run", "walk"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "01.bvh").write_text(text(motion(seed=len(kind))))
    source = bvh.open_source(tmp_path)
    clips, _ = read_all(source)
    assert source.header.classes == ("run", "walk")
    assert {name: clip.label for name, clip in clips.items()} == {"run/01": 0, "walk/01": 1}
    (tmp_path / "asma.json").write_text('{"classes": ["walk", "sit", "run"], "clips": {"run/01": {"subject": 4}}}')
    clips, _ = read_all(bvh.open_source(tmp_path))
    assert (clips["run/01"].label, clips["run/01"].subject, clips["walk/01"].label) == (2, 4, 0)
    (tmp_path / "asma.json").write_text('{"classes": ["walk"]}')
    with pytest.raises(ValueError, match="a folder must be called after one of the classes of asma.json, got 'run'"):
        bvh.open_source(tmp_path)


def test_frames_over_several_lines_and_odd_blanks(walk):
    whole, _ = read_all(bvh.open_source(walk))
    broken = text(motion()).replace("Frames: 4", "Frames:\t4")
    head, _, tail = broken.partition("0.033333\n")
    (walk / "walk.bvh").write_text(head.replace("\n", "\n\n") + "0.033333\n" + "\n ".join(tail.split()))
    clips, left = read_all(bvh.open_source(walk))
    assert not left
    np.testing.assert_array_equal(clips["walk"].tracks[0].data, whole["walk"].tracks[0].data)


FAULTS = {
    "no number": ("OFFSET 1 -4 0.5", "OFFSET 1 -4 x", "line 8: must be three numbers after OFFSET, got 'x'"),
    "unknown channel": ("3 Yrotation", "3 Wrotation", "line 9: must be after one of Xposition"),
    "seven channels": ("CHANNELS 6", "CHANNELS 7", "line 5: must be a number of channels of at most 6, got '7'"),
    "unknown word": ("End Site", "Bone", "line 10: must be OFFSET, CHANNELS, JOINT, End Site or }, got 'Bone'"),
    "no brace": ("ROOT Hips\n{", "ROOT Hips\n", "must be {"),
    "no motion": ("MOTION", "NOTION", "line 25: must be MOTION, got 'NOTION'"),
    "negative frames": (
        "Frames: 4",
        "Frames: -4",
        "line 26: must be a number of frames of at most 1099511627776, got '-4'",
    ),
    "too many frames": (
        "Frames: 4",
        "Frames: 999999999",
        "must end after 999999999 frames of 12 numbers, got 48 numbers",
    ),
    "too few frames": ("Frames: 4", "Frames: 3", "must end after 3 frames of 12 numbers, got 48 numbers"),
    "no frames": ("Frames: 4", "Frames: 0", "0 frames of 12 are told"),
    "missing channel": ("3 Yrotation Xrotation", "2 Yrotation Xrotation", "got 'Zrotation'"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults_have_a_line_and_the_rest_is_kept(case, walk):
    old, new, reason = FAULTS[case]
    (walk / "b.bvh").write_text(text(motion()).replace(old, new))
    clips, (left,) = read_all(bvh.open_source(walk))
    assert set(clips) == {"walk"}
    assert left.source.startswith("b.bvh") and reason in f"{left.source.removeprefix('b.bvh: ')}: {left.reason}"
    with pytest.raises(ValueError, match="must have a .bvh file that can be read, but b.bvh: line"):
        bvh.open_source(walk / "b.bvh")


def test_another_tree_is_left_out(walk):
    (walk / "b.bvh").write_text(text(motion()).replace("RightLeg", "RightArm"))
    clips, (left,) = read_all(bvh.open_source(walk))
    assert set(clips) == {"b"} and left.source == "walk.bvh"
    assert left.reason == "the joints must be those of b.bvh, in the same tree, they are not"


def test_a_thousand_joints_and_no_more(tmp_path):
    """Depth is no recursion here; a bomb of brackets has an end."""

    def chain(joints):
        inside = "JOINT a\n{\n" * (joints - 1) + "}\n" * joints
        return f"HIERARCHY\nROOT a\n{{\nCHANNELS 1 Xposition\n{inside}MOTION\nFrames: 1\nFrame Time: 1\n1\n"

    (tmp_path / "a.bvh").write_text(chain(1500))
    with pytest.raises(ValueError, match="must be at most 1024 joints"):
        bvh.open_source(tmp_path)
    (tmp_path / "a.bvh").write_text(chain(100))
    source = bvh.open_source(tmp_path)
    assert source.header.skeleton.num_joints == 100 and source.header.skeleton.names[:3] == ("a", "a_2", "a_3")


def test_few_channels_of_many_frames_do_not_fill_the_memory(tmp_path):
    joints = "JOINT a\n{\n}\n" * 1000
    head = f"HIERARCHY\nROOT a\n{{\nCHANNELS 1 Xposition\n{joints}}}\nMOTION\nFrames: 100000\nFrame Time: 1\n"
    (tmp_path / "a.bvh").write_text(head + "1\n" * 100_000)
    with pytest.raises(ValueError, match="must have at most 67108864 joints in all frames, got 1001 in 100000"):
        bvh.open_source(tmp_path)
