"""Maps between skeletons: what corresponds, what is a mean, what is missing, and how clips are mapped."""

import itertools

import pytest
import torch
from cases import gradients

import asma_kernels as ak
from asma_kernels import Skeleton
from asma_kernels.joint_map import picks

FIVE = ("ntu25", "coco17", "openpose18", "ucla20", "utd20")
BODIES = (*FIVE, "ntu25-pyskl", "florence15", "mediapipe33", "openpose25")


def of(name):
    return Skeleton.builtin(name)


def weights(matrix, source, target, joint):
    """Source joint's name -> weight, of one target joint."""
    row = matrix[target.names.index(joint)]
    return {source.names[v]: row[v].item() for v in row.nonzero().flatten().tolist()}


@pytest.mark.parametrize(("a", "b"), [*itertools.product(BODIES, BODIES)])
@pytest.mark.parametrize("missing", ["zero", "nearest"])
def test_every_pair(a, b, missing):
    source, target = of(a), of(b)
    matrix = source.map_to(target, missing)
    assert matrix.shape == (target.num_joints, source.num_joints) and matrix.dtype == torch.float32
    total = matrix.sum(1)
    assert (matrix >= 0).all() and (((total - 1).abs() < 1e-6) | (total == 0)).all()
    if missing == "nearest":
        assert (total > 0.99).all()
    # Mirror first or map first: the same.
    assert torch.equal(matrix[list(target.flip)][:, list(source.flip)], matrix)
    # No limb comes from the other side or from another limb.
    for part, joints in target.parts.items():
        if part != "trunk":
            other = [v for name, listed in source.parts.items() if name not in (part, "trunk") for v in listed]
            assert matrix[list(joints)][:, other].abs().max() == 0
    if source.names == target.names:
        assert torch.equal(matrix, torch.eye(source.num_joints))


@pytest.mark.parametrize(("a", "b"), [*itertools.combinations(BODIES, 2)])
def test_there_and_back(a, b):
    """A joint that corresponds to one joint comes back as itself."""
    there, back = of(a).map_to(of(b), "zero"), of(b).map_to(of(a), "zero")
    for v in ((there == 1).sum(0) == 1).nonzero().flatten().tolist():
        w = int((there[:, v] == 1).nonzero()[0])
        if (there[w] != 0).sum() == 1 and (back[v] == 1).any():
            assert back[v, w] == 1


def test_what_corresponds():
    ntu, coco, openpose, ucla, utd = (of(name) for name in FIVE)
    matrix = coco.map_to(ntu, "zero")
    assert weights(matrix, coco, ntu, "base_of_spine") == {"left_hip": 0.5, "right_hip": 0.5}
    assert weights(matrix, coco, ntu, "spine") == {"left_shoulder": 0.5, "right_shoulder": 0.5}
    assert set(weights(matrix, coco, ntu, "middle_of_spine").values()) == {0.25}
    assert weights(matrix, coco, ntu, "head") == {"left_ear": 0.5, "right_ear": 0.5}
    absent = {ntu.names[w] for w in (matrix.sum(1) == 0).nonzero().flatten().tolist()}
    ends = ("hand", "foot", "hand_tip", "thumb")
    assert absent == {"neck", *(f"{side}_{end}" for side in ("left", "right") for end in ends)}
    matrix = ntu.map_to(openpose, "zero")
    assert weights(matrix, ntu, openpose, "neck") == {"spine": 1}, "between the shoulders, not Kinect's neck"
    assert weights(matrix, ntu, openpose, "right_ankle") == {"right_ankle": 1}
    assert (matrix.sum(1) == 0).sum() == 5, "the face"
    matrix = ntu.map_to(ucla)  # nothing is missing
    assert weights(matrix, ntu, ucla, "spine") == {"middle_of_spine": 1}
    assert weights(matrix, ntu, ucla, "shoulder_center") == {"spine": 1}
    assert weights(matrix, ntu, ucla, "foot_left") == {"left_foot": 1}
    matrix = coco.map_to(openpose)
    assert weights(matrix, coco, openpose, "neck") == {"left_shoulder": 0.5, "right_shoulder": 0.5}
    assert torch.equal(ucla.map_to(utd) @ utd.map_to(ucla), torch.eye(20))
    matrix = of("mediapipe33").map_to(ntu, "zero")
    assert weights(matrix, of("mediapipe33"), ntu, "left_hand") == {"left_index": 0.5, "left_pinky": 0.5}
    matrix = of("openpose25").map_to(ntu, "zero")
    assert weights(matrix, of("openpose25"), ntu, "base_of_spine") == {"mid_hip": 1}
    assert weights(matrix, of("openpose25"), ntu, "spine") == {"neck": 1}
    assert weights(matrix, of("openpose25"), ntu, "left_foot") == {"left_big_toe": 0.5, "left_small_toe": 0.5}


def test_nearest():
    ntu, coco = of("ntu25"), of("coco17")
    matrix = ntu.map_to(coco, "nearest")
    assert all(weights(matrix, ntu, coco, joint) == {"head": 1} for joint in coco.names[:5])
    matrix = coco.map_to(ntu, "nearest")
    for joint in ("left_hand", "left_hand_tip", "left_thumb"):
        assert weights(matrix, coco, ntu, joint) == {"left_wrist": 1}
    assert weights(matrix, coco, ntu, "right_foot") == {"right_ankle": 1}
    assert weights(matrix, coco, ntu, "neck") == {"left_shoulder": 0.5, "right_shoulder": 0.5}


def test_a_user_s_skeleton_maps_by_its_names():
    names = ["Hip_Left", "Hip_Right", "Neck", "Head"]
    mine = Skeleton.from_edges([(0, 2), (1, 2), (2, 3)], names=names, centre=2)
    matrix = of("ntu25").map_to(mine)
    assert matrix.nonzero()[:, 1].tolist() == [12, 16, 2, 3]
    assert weights(mine.map_to(of("ntu25"), "zero"), mine, of("ntu25"), "base_of_spine") == {
        "Hip_Left": 0.5,
        "Hip_Right": 0.5,
    }


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("target", ["utd20", "ucla20", "openpose18"])
def test_one_product_and_one_gather_give_the_same(target, dtype):
    source = of("ntu25")
    matrix = source.map_to(of(target), "nearest")
    x = torch.randn(2, 3, 4, 25, 2, dtype=dtype, generator=torch.Generator().manual_seed(0))
    mapped = matrix.to(x) @ x
    assert torch.equal(ak.skeleton_view(x, joints=picks(matrix)), mapped)
    assert mapped.shape == (2, 3, 4, of(target).num_joints, 2)
    weight = torch.linspace(-1, 2, mapped.numel(), dtype=torch.float64).view_as(mapped).to(dtype)
    (gradient,) = gradients(lambda x: ak.skeleton_view(x, joints=picks(matrix)), x)
    torch.testing.assert_close(gradient, matrix.T.to(x) @ weight)


def test_missing_joints_are_zeros_in_the_gather():
    matrix = of("ntu25").map_to(of("coco17"), "zero")
    joints = picks(matrix)
    assert joints[:5].tolist() == [-1] * 5 and (joints[5:] >= 0).all()
    x = torch.ones(1, 3, 2, 25, 1)
    assert torch.equal(ak.skeleton_view(x, joints=joints), matrix @ x)


def joint_names(count):
    return Skeleton.from_edges([(v, v + 1) for v in range(count - 1)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: of("ntu25").map_to(of("coco17")),
            "'ntu25' has no counterpart of these of 'coco17': nose, left_eye, right_eye, ",
        ),
        (lambda: of("ntu25").map_to(of("coco17")), 'missing="zero" leaves them at zero'),
        (
            lambda: of("ntu25").map_to(of("coco17"), "mean"),
            "map_to: missing must be one of error, zero, nearest, got 'mean'",
        ),
        (
            lambda: of("ntu25").map_to(of("hand21"), "zero"),
            "'ntu25' has no counterpart of these of 'hand21': wrist, thumb_cmc",
        ),
        (lambda: of("ntu25").map_to(of("hand21"), "nearest"), "'ntu25' has no counterpart of these of 'hand21': wrist"),
        (
            lambda: joint_names(3).map_to(joint_names(4), "zero"),
            "'custom' has no counterpart of these of 'custom': joint_0",
        ),
        (lambda: picks(of("coco17").map_to(of("openpose18"))), "picks: each row must be one 1 or zeros, got a mean"),
        (lambda: picks(torch.ones(3)), r"picks: matrix must be \(W, V\), got shape \(3,\)"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
