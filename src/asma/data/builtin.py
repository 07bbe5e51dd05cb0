"""A data set made by code: people of different build act in front of a virtual depth camera.

Every clip is forward kinematics: the angles of a body's joints over time, written down per action in `_actions`, turn
bones of that body's lengths. What makes real sets hard is there on purpose: people differ in build, posture, tempo and
reach; idle arms do things of their own; the sensor sees from one side, shakes, loses joints and freezes. Some classes
differ by nothing but the direction of time (sit down, stand up), the side (wave right, wave left) or the tempo (walk,
jog).

Axes are Kinect's: x to the right of a person who faces the camera, y up, z away from the camera; metres.
"""

from __future__ import annotations

import numpy as np

from asma.data._actions import ACTIONS, BONES, LONGEST, Performances, forward_kinematics, rotation
from asma.data.clips import ClipSet
from asma_kernels.skeleton import Skeleton

__all__ = ["builtin_clips"]

SHORTEST = 40
MOST_DROPPED = 5
SLIP_FRAMES = 4
SEGMENT_GROUPS = (("loin", "chest", "neck", "head"), ("upper arm",), ("forearm", "hand"), ("thigh",), ("shank", "foot"))


def _people(seed: int, subjects: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Bone scales (S, 25) and the habits of each person, (S,) each, from the seed alone."""
    rng = np.random.default_rng([seed, 0])
    height = rng.normal(1, 0.06, subjects).clip(0.86, 1.14)
    bones = np.ones((subjects, 25))
    for group in SEGMENT_GROUPS:
        build = height * rng.normal(1, 0.04, subjects)
        for joint, _, segment, _ in BONES:
            if segment.removeprefix("left ").removeprefix("right ") in group:
                bones[:, joint] = build
    bones[:, [4, 8]] = (height * rng.normal(1, 0.07, subjects))[:, None]
    bones[:, [12, 16]] = (height * rng.normal(1, 0.07, subjects))[:, None]
    spans = {
        "lift": (2, 14), "out": (20, 90), "twist": (-10, 25), "elbow": (8, 40), "spread": (1, 10), "knee": (3, 14),
        "bend": (-2, 11), "nod": (-6, 9), "vigour": (0.7, 1.3), "tempo": (0.8, 1.25),
    }  # fmt: skip
    return bones, {name: rng.uniform(*span, subjects) for name, span in spans.items()}


def _record(world: np.ndarray, yaw: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What depth cameras at yaws (N,) in degrees make of joints (N, T, 25, 3): float32 in the axes of the camera."""
    count = len(world)
    camera = rotation(0, rng.normal(0, 3, count)) @ rotation(1, yaw + rng.normal(0, 12, count))
    seen = np.einsum("nij,ntvj->ntvi", camera, world).astype(np.float32)
    # The trunk hides what is behind it, and there a depth camera guesses: noisy, off by a constant, sometimes lost.
    hidden = np.clip((seen[..., 2] - seen[:, :, 1:2, 2]) / 0.25, 0, 1)[..., None]
    guess = rng.normal(0, 0.05, (count, 1, *seen.shape[2:])).astype(np.float32)
    noise = rng.standard_normal(seen.shape, np.float32)
    noise[:, 1:] += noise[:, :-1].copy()
    seen += hidden * guess + noise * (0.006 + 0.012 * hidden)
    lost = rng.random((*seen.shape[:-1], 1), np.float32) < 0.001 + 0.006 * hidden
    slip = lost * rng.standard_normal(seen.shape, np.float32) * 0.09
    for delay in range(SLIP_FRAMES):
        seen[:, delay:] += slip[:, : LONGEST - delay]
    place = rng.normal((0, -0.95, 3), (0.12, 0.05, 0.15), (count, 3))
    return seen + place[:, None, None].astype(np.float32)


def _frames(seen: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cut clips (N, T, 25, 3) to their lengths (N,), freeze a run of frames of some and drop frames of others.

    Returns the frames of all clips in a row and the lengths that are left."""
    count, time = len(seen), np.arange(seen.shape[1])[None]
    begin, run = rng.integers(1, SHORTEST - 8, (count, 1)), rng.integers(2, 8, (count, 1))
    frozen = (rng.random((count, 1)) < 0.3) & (time >= begin) & (time < begin + run)
    shown = np.where(frozen, begin - 1, time)
    order = rng.random(seen.shape[:2])
    order[time >= lengths[:, None]] = 2
    rank = order.argsort(1).argsort(1)
    keep = (time < lengths[:, None]) & (rank >= rng.integers(0, MOST_DROPPED + 1, (count, 1)))
    return seen[np.arange(count)[:, None], shown][keep], keep.sum(1)


def builtin_clips(seed: int = 0, classes: int = 12, subjects: int = 12, views: int = 3, repeats: int = 3) -> ClipSet:
    """People made by code who do up to 18 actions, seen by a depth camera from several sides.

    Every combination of class, subject, repetition and view is one clip of 40 to 90 frames at 30 a second, so the
    defaults give 12 * 12 * 3 * 3 = 1,296 clips; each is a performance of its own. The cameras stand at yaws from -45 to
    45 degrees, about. Coordinates are in metres in Kinect's axes (y up, z away from the camera), joints those of
    `Skeleton.builtin("ntu25")`. Subjects and views count from 1. With three views the usual split is
    `split("view-12-3")`, which tests on a camera that no training clip was seen by; otherwise it is
    `split("subject-odd-even")`, which tests on other people. Asking for fewer classes gives the same clips of the first
    ones.

    Deterministic: the same arguments give the same bits on the same machine and NumPy.

    Args:
        seed: at least 0; another seed makes other people and performances.
        classes: 2 to 18, taken in the order of `ACTIONS`.
        subjects, views, repeats: at least 1 each.

    Raises:
        ValueError: an argument is not an integer or out of its range.

    >>> clips = builtin_clips(classes=2, subjects=2, views=1, repeats=1)
    >>> len(clips), clips.classes, clips.skeleton.num_joints
    (4, ('sit down', 'stand up'), 25)
    """
    for name, value, low, high in (
        ("seed", seed, 0, 2**63),
        ("classes", classes, 2, len(ACTIONS)),
        ("subjects", subjects, 1, 10_000),
        ("views", views, 1, 100),
        ("repeats", repeats, 1, 10_000),
    ):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
            raise ValueError(f"builtin_clips: {name} must be an integer in [{low}, {high}], got {value!r}")
    bones, habits = _people(seed, subjects)
    person = np.repeat(np.arange(subjects), repeats * views)
    yaw = np.tile(np.linspace(-45, 45, views) if views > 1 else np.zeros(1), subjects * repeats)
    data, kept = [], []
    for label, action in enumerate(list(ACTIONS.values())[:classes]):
        rng = np.random.default_rng([seed, 1, label])
        pace = habits["tempo"][person] ** 0.5
        lengths = (rng.uniform(48, 86, len(person)) / pace).astype(np.int64).clip(SHORTEST + MOST_DROPPED, LONGEST)
        act = Performances(rng, lengths, {name: habit[person] for name, habit in habits.items()}, repeats * views)
        action(act)
        frames, left = _frames(_record(forward_kinematics(act, bones[person]), yaw, rng), lengths, rng)
        data.append(frames)
        kept.append(left)
    axes = np.indices((classes, subjects, repeats, views), dtype=np.int64)
    labels, subject, repeat, view = axes.reshape(4, -1)
    return ClipSet(
        data=np.concatenate(data),
        offsets=np.concatenate([[0], np.cumsum(np.concatenate(kept))]),
        label=labels,
        subject=subject + 1,
        view=view + 1,
        name=np.array(["a{:02}_s{:02}_r{:02}_v{:02}".format(*numbers) for numbers in (axes.reshape(4, -1) + 1).T]),
        classes=tuple(ACTIONS)[:classes],
        skeleton=Skeleton.builtin("ntu25"),
        title=f"built-in (seed {seed})",
        usual_split="view-12-3" if views == 3 else "subject-odd-even",
    )
