"""From one skeleton's joints to another's, by what the joints are called.

`Skeleton.map_to` is how to use it. A joint corresponds to the joint of the same meaning, or to the mean of the joints
that define it (pose estimators' neck is the middle of the shoulders). Where a skeleton has neither there is no
counterpart: an error, zeros, or the joint next to it in the body, whichever the caller asks for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from .layouts import LAYOUTS

if TYPE_CHECKING:
    from .skeleton import Skeleton

__all__ = ["joint_map", "picks"]

MISSING = ("error", "zero", "nearest")

# One meaning has one name. Sides come first (shoulder_left is left_shoulder) before these are looked up.
_SYNONYMS = {
    "hip_center": "pelvis",
    "mid_hip": "pelvis",
    "base_of_spine": "pelvis",
    "middle_of_spine": "torso",
    "spine": "torso",
    "shoulder_center": "shoulder_centre",
    "left_foot_index": "left_foot",
    "right_foot_index": "right_foot",
}
# Names that mean something else in one layout: Kinect v2's "spine" lies between the shoulders, and so does the neck of
# OpenPose, of which COCO's annotations know nothing and which it takes as the shoulders' middle, and of Florence 3D.
_MEANINGS = {
    "ntu25": {"spine": "shoulder_centre"},
    "openpose18": {"neck": "shoulder_centre"},
    "openpose25": {"neck": "shoulder_centre"},
    "florence15": {"neck": "shoulder_centre"},
}
# What a joint is the mean of where it is not a joint itself.
_MEANS = {
    "pelvis": ("left_hip", "right_hip"),
    "shoulder_centre": ("left_shoulder", "right_shoulder"),
    "torso": ("pelvis", "shoulder_centre"),
    "head": ("left_ear", "right_ear"),
    "left_hand": ("left_index", "left_pinky"),
    "right_hand": ("right_index", "right_pinky"),
    "left_foot": ("left_big_toe", "left_small_toe"),
    "right_foot": ("right_big_toe", "right_small_toe"),
}
# The joint next to it in the body, for missing="nearest".
_NEIGHBOURS = {
    "neck": "shoulder_centre",
    "head": "nose",
    "nose": "head",
    **{f"{side}_{part}": "nose" for side in ("left", "right") for part in ("eye", "ear")},
    **{f"mouth_{side}": "nose" for side in ("left", "right")},
    **{f"{side}_eye_{part}": f"{side}_eye" for side in ("left", "right") for part in ("inner", "outer")},
    **{f"{side}_hand": f"{side}_wrist" for side in ("left", "right")},
    **{f"{side}_{part}": f"{side}_hand" for side in ("left", "right") for part in ("hand_tip", "thumb")},
    **{f"{side}_{part}": f"{side}_hand_tip" for side in ("left", "right") for part in ("index", "pinky")},
    **{f"{side}_{part}": f"{side}_ankle" for side in ("left", "right") for part in ("foot", "heel")},
    **{f"{side}_{part}_toe": f"{side}_foot" for side in ("left", "right") for part in ("big", "small")},
}


def joint_map(source: Skeleton, target: Skeleton, missing: str = "error") -> torch.Tensor:
    """See :meth:`asma_kernels.Skeleton.map_to`."""
    if missing not in MISSING:
        raise ValueError(f"Skeleton.map_to: missing must be one of {', '.join(MISSING)}, got {missing!r}")
    if source.names == target.names:
        return torch.eye(source.num_joints)
    have = {meaning: joint for joint, meaning in enumerate(_meanings(source)) if meaning}
    matrix = torch.zeros(target.num_joints, source.num_joints)
    absent = []
    for row, meaning in enumerate(_meanings(target)):
        weights = _weights(meaning, have, missing == "nearest", frozenset())
        if not weights:
            absent.append(target.names[row])
        for joint, weight in weights.items():
            matrix[row, joint] = weight
    if len(absent) == target.num_joints or (absent and missing != "zero"):
        advice = "" if missing == "nearest" else '; missing="zero" leaves them at zero, "nearest" takes a joint near by'
        raise ValueError(
            f"Skeleton.map_to: {source.name!r} has no counterpart of these of {target.name!r}: {', '.join(absent)}"
            + (advice if len(absent) < target.num_joints else "")
        )
    return matrix


def picks(matrix: torch.Tensor) -> torch.Tensor:
    """A map that takes each joint from one joint, as ``joints`` of :func:`asma_kernels.skeleton_view`.

    The map then costs nothing beside the crop, the rotation and the masks of that gather.

    Args:
        matrix: (W, V) of :meth:`asma_kernels.Skeleton.map_to`, each row one 1 or zeros.

    Returns:
        (W,) int64 on the matrix's device, -1 for a row of zeros.

    Raises:
        ValueError: a row is a mean of joints, which no gather takes, or the matrix has other axes.

    Example:
        >>> import asma_kernels
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.joint_map import picks
        >>> picks(Skeleton.builtin("utd20").map_to(Skeleton.builtin("ucla20"))).tolist()[:5]
        [3, 2, 1, 0, 4]
    """
    if matrix.dim() != 2:
        raise ValueError(f"picks: matrix must be (W, V), got shape {tuple(matrix.shape)}")
    single = ((matrix == 0) | (matrix == 1)).all(1) & ((matrix != 0).sum(1) <= 1)
    if not bool(single.all()):
        row = int((~single).nonzero()[0])
        raise ValueError(f"picks: each row must be one 1 or zeros, got a mean of joints in row {row}; multiply instead")
    absent = torch.full_like(matrix[:, :1], 0.5)  # above 0 and below 1: taken where a row has no 1
    return torch.cat([absent, matrix], dim=1).argmax(1) - 1


def _meanings(skeleton: Skeleton) -> list[str]:
    """What each joint is; empty where its name does not say."""
    layout = next((name for name in _MEANINGS if LAYOUTS[name].names == skeleton.names), None)
    special = _MEANINGS[layout] if layout else {}
    return [special.get(name) or _meaning(name) for name in skeleton.names]


def _meaning(name: str) -> str:
    if re.fullmatch(r"joint_\d+", name):  # made up by from_edges: two skeletons' must not match
        return ""
    words = name.lower().split("_")
    if words[0] != "mouth":
        words.sort(key=lambda word: word not in ("left", "right"))
    joined = "_".join(words)
    return _SYNONYMS.get(joined, joined)


def _weights(meaning: str, have: dict[str, int], nearest: bool, tried: frozenset[str]) -> dict[int, float]:
    """Joint -> weight, empty where there is no counterpart."""
    if meaning in have:
        return {have[meaning]: 1.0}
    if meaning in tried:
        return {}
    tried |= {meaning}
    halves = [_weights(half, have, False, tried) for half in _MEANS.get(meaning, ())]
    if halves and all(halves):
        # The halves of a mean have no joint in common.
        return {joint: weight / 2 for half in halves for joint, weight in half.items()}
    return _weights(_NEIGHBOURS[meaning], have, True, tried) if nearest and meaning in _NEIGHBOURS else {}
