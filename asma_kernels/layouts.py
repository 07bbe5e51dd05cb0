"""Tables of the built-in skeleton layouts; `asma_kernels.skeleton.Skeleton.builtin` is how to use them.

Joints are 0-based and in the order in which the data set or pose estimator writes them. Every layout is a tree, so that
the bone stream needs no list of parents. Where the source's own graph is not a tree, the layout's comment says what was
changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Edges = tuple[tuple[int, int], ...]
Parts = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Layout:
    """One built-in layout: V joint names, V - 1 edges, the centre joint, and disjoint parts that cover all joints."""

    names: tuple[str, ...]
    edges: Edges
    centre: int
    parts: Parts

    @property
    def flip(self) -> tuple[int, ...]:
        """Left-right permutation, V joints: `flip[v]` has the name of v with left and right exchanged."""
        return tuple(self.names.index(_other_side(name)) for name in self.names)


def _other_side(name: str) -> str:
    exchanged = {"left": "right", "right": "left"}
    return "_".join(exchanged.get(word, word) for word in name.split("_"))


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_NTU25_NAMES = _names(
    "base_of_spine middle_of_spine neck head "
    "left_shoulder left_elbow left_wrist left_hand right_shoulder right_elbow right_wrist right_hand "
    "left_hip left_knee left_ankle left_foot right_hip right_knee right_ankle right_foot "
    "spine left_hand_tip left_thumb right_hand_tip right_thumb"
)
_NTU25_BODY: Edges = (
    (0, 1), (1, 20), (2, 20), (3, 2), (4, 20), (5, 4), (6, 5), (7, 6), (8, 20), (9, 8), (10, 9), (11, 10),
    (12, 0), (13, 12), (14, 13), (15, 14), (16, 0), (17, 16), (18, 17), (19, 18),
)  # fmt: skip
_NTU25_PARTS: Parts = {
    "left_arm": (4, 5, 6, 7, 21, 22),
    "right_arm": (8, 9, 10, 11, 23, 24),
    "left_leg": (12, 13, 14, 15),
    "right_leg": (16, 17, 18, 19),
    "trunk": (0, 1, 2, 3, 20),
}
_KINECT_V1_PARTS: Parts = {
    "left_arm": (4, 5, 6, 7),
    "right_arm": (8, 9, 10, 11),
    "left_leg": (12, 13, 14, 15),
    "right_leg": (16, 17, 18, 19),
    "trunk": (0, 1, 2, 3),
}
_KINECT_V1_LIMBS = (
    "shoulder_left elbow_left wrist_left hand_left shoulder_right elbow_right wrist_right hand_right "
    "hip_left knee_left ankle_left foot_left hip_right knee_right ankle_right foot_right"
)

LAYOUTS: Mapping[str, Layout] = {
    # NTU RGB+D and PKU-MMD, Kinect v2, with the edges of ST-GCN: the hand tip hangs at the thumb.
    "ntu25": Layout(
        names=_NTU25_NAMES,
        edges=(*_NTU25_BODY, (21, 22), (22, 7), (23, 24), (24, 11)),
        centre=20,
        parts=_NTU25_PARTS,
    ),
    # The same joints with pyskl's edges: thumb and hand tip both hang at the hand.
    "ntu25-pyskl": Layout(
        names=_NTU25_NAMES,
        edges=(*_NTU25_BODY, (21, 7), (22, 7), (23, 11), (24, 11)),
        centre=20,
        parts=_NTU25_PARTS,
    ),
    # Northwestern-UCLA, Kinect v1, joints from the hip centre up. The centre is
    # the hip's, as in UTD-MHAD; CTR-GCN and AimCLR have the same edges around joint 2.
    "ucla20": Layout(
        names=_names(f"hip_center spine shoulder_center head {_KINECT_V1_LIMBS}"),
        edges=(
            (0, 1), (1, 2), (2, 3), (2, 4), (4, 5), (5, 6), (6, 7), (2, 8), (8, 9), (9, 10), (10, 11),
            (0, 12), (12, 13), (13, 14), (14, 15), (0, 16), (16, 17), (17, 18), (18, 19),
        ),
        centre=0,
        parts=_KINECT_V1_PARTS,
    ),
    # UTD-MHAD, Kinect v1, joints from the head down.
    "utd20": Layout(
        names=_names(f"head shoulder_center spine hip_center {_KINECT_V1_LIMBS}"),
        edges=(
            (3, 2), (2, 1), (1, 0), (1, 4), (4, 5), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (10, 11),
            (3, 12), (12, 13), (13, 14), (14, 15), (3, 16), (16, 17), (17, 18), (18, 19),
        ),
        centre=3,
        parts=_KINECT_V1_PARTS,
    ),
    # OpenPose's 18 COCO keypoints (Kinetics-Skeleton) with the edges of ST-GCN: the hips hang at the shoulders.
    "openpose18": Layout(
        names=_names(
            "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist "
            "right_hip right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear"
        ),
        edges=(
            (4, 3), (3, 2), (7, 6), (6, 5), (13, 12), (12, 11), (10, 9), (9, 8), (11, 5), (8, 2), (5, 1), (2, 1),
            (0, 1), (15, 0), (14, 0), (17, 15), (16, 14),
        ),
        centre=1,
        parts={
            "left_arm": (5, 6, 7),
            "right_arm": (2, 3, 4),
            "left_leg": (11, 12, 13),
            "right_leg": (8, 9, 10),
            "trunk": (0, 1, 14, 15, 16, 17),
        },
    ),
    # OpenPose's 25 body keypoints (BODY_25, its default) with the pairs that OpenPose draws: the neck carries both
    # arms, the face and, through the middle of the hips, the legs; the feet have two toes and a heel.
    "openpose25": Layout(
        names=_names(
            "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist mid_hip "
            "right_hip right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear "
            "left_big_toe left_small_toe left_heel right_big_toe right_small_toe right_heel"
        ),
        edges=(
            (1, 8), (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (8, 9), (9, 10), (10, 11), (8, 12), (12, 13),
            (13, 14), (1, 0), (0, 15), (15, 17), (0, 16), (16, 18), (14, 19), (19, 20), (14, 21), (11, 22), (22, 23),
            (11, 24),
        ),
        centre=8,
        parts={
            "left_arm": (5, 6, 7),
            "right_arm": (2, 3, 4),
            "left_leg": (12, 13, 14, 19, 20, 21),
            "right_leg": (9, 10, 11, 22, 23, 24),
            "trunk": (0, 1, 8, 15, 16, 17, 18),
        },
    ),
    # COCO's 17 keypoints with the edges of pyskl, a tree around the nose (COCO's own person skeleton has cycles).
    "coco17": Layout(
        names=_names(
            "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow "
            "left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle"
        ),
        edges=(
            (15, 13), (13, 11), (16, 14), (14, 12), (11, 5), (12, 6), (9, 7), (7, 5), (10, 8), (8, 6), (5, 0), (6, 0),
            (1, 0), (3, 1), (2, 0), (4, 2),
        ),
        centre=0,
        parts={
            "left_arm": (5, 7, 9),
            "right_arm": (6, 8, 10),
            "left_leg": (11, 13, 15),
            "right_leg": (12, 14, 16),
            "trunk": (0, 1, 2, 3, 4),
        },
    ),
    # Florence 3D Actions, 15 joints.
    "florence15": Layout(
        names=_names(
            "head neck spine left_shoulder left_elbow left_wrist right_shoulder right_elbow right_wrist "
            "left_hip left_knee left_ankle right_hip right_knee right_ankle"
        ),
        edges=(
            (0, 1), (1, 2), (1, 3), (3, 4), (4, 5), (1, 6), (6, 7), (7, 8),
            (2, 9), (9, 10), (10, 11), (2, 12), (12, 13), (13, 14),
        ),
        centre=2,
        parts={
            "left_arm": (3, 4, 5),
            "right_arm": (6, 7, 8),
            "left_leg": (9, 10, 11),
            "right_leg": (12, 13, 14),
            "trunk": (0, 1, 2),
        },
    ),
    # MediaPipe Pose. Its POSE_CONNECTIONS leave face, mouth and body apart and have cycles at the torso, the
    # hands and the feet. Here the face carries the body, as in coco17: mouth and shoulders hang at the nose, and the
    # edges across (mouth, shoulders, hips), pinky to index and heel to toe are left out.
    "mediapipe33": Layout(
        names=_names(
            "nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer left_ear right_ear "
            "mouth_left mouth_right left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist "
            "left_pinky right_pinky left_index right_index left_thumb right_thumb left_hip right_hip "
            "left_knee right_knee left_ankle right_ankle left_heel right_heel left_foot_index right_foot_index"
        ),
        edges=(
            (0, 1), (1, 2), (2, 3), (3, 7), (0, 4), (4, 5), (5, 6), (6, 8), (0, 9), (0, 10), (0, 11), (0, 12),
            (11, 13), (13, 15), (15, 17), (15, 19), (15, 21), (12, 14), (14, 16), (16, 18), (16, 20), (16, 22),
            (11, 23), (23, 25), (25, 27), (27, 29), (27, 31), (12, 24), (24, 26), (26, 28), (28, 30), (28, 32),
        ),
        centre=0,
        parts={
            "left_arm": (11, 13, 15, 17, 19, 21),
            "right_arm": (12, 14, 16, 18, 20, 22),
            "left_leg": (23, 25, 27, 29, 31),
            "right_leg": (24, 26, 28, 30, 32),
            "trunk": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
        },
    ),
    # One hand as MediaPipe Hands and OpenPose number it, with OpenPose's edges: five fingers at the wrist (MediaPipe's
    # palm has cycles). Mirrored, a left hand is a right hand whose joints keep their names: flip is the identity.
    "hand21": Layout(
        names=_names(
            "wrist thumb_cmc thumb_mcp thumb_ip thumb_tip index_mcp index_pip index_dip index_tip "
            "middle_mcp middle_pip middle_dip middle_tip ring_mcp ring_pip ring_dip ring_tip "
            "pinky_mcp pinky_pip pinky_dip pinky_tip"
        ),
        edges=(
            (0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (5, 6), (6, 7), (7, 8), (0, 9), (9, 10), (10, 11), (11, 12),
            (0, 13), (13, 14), (14, 15), (15, 16), (0, 17), (17, 18), (18, 19), (19, 20),
        ),
        centre=0,
        parts={
            "wrist": (0,),
            "thumb": (1, 2, 3, 4),
            "index": (5, 6, 7, 8),
            "middle": (9, 10, 11, 12),
            "ring": (13, 14, 15, 16),
            "pinky": (17, 18, 19, 20),
        },
    ),
}  # fmt: skip
