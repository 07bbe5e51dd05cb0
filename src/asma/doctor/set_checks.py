"""What only all clips together tell: labels, copies, splits, and clips that differ from the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..data.anatomy import anatomy
from ..data.source import UNKNOWN
from .diagnosis import Example, Table
from .faults import Found
from .splits import Pair

if TYPE_CHECKING:
    from .survey import Measured, Survey

__all__ = ["check_set"]

ENOUGH = 5
"""Clips from which on their median says what is usual."""
AGREE = 0.3
"""Length of the mean of unit vectors from which on they have a direction in common."""
AGAINST = -0.5
"""Cosine to that direction below which a body is upside down: more than 120 degrees; who lies has about 0."""
AXES = ("x", "y", "z")


def check_set(survey: Survey, clips: Table, pairs: Sequence[Pair]) -> None:
    """Add what is found to the survey."""
    if not len(clips):
        return
    _names(survey, clips)
    _labels(survey, clips, pairs)
    _copies(survey, clips, pairs)
    for pair in pairs:
        _split(survey, clips, pair)
    measured = survey.measured()
    _centred(survey, clips, measured)
    _sizes(survey, measured.size)
    _bones(survey, measured.bones)
    _directions(survey, measured.up, measured.facing)


def _names(survey: Survey, clips: Table) -> None:
    first: dict[str, int] = {}
    for index, name in enumerate(clips.name):
        if first.setdefault(name, index) != index:
            survey.add_found(index, Found("duplicate-name", f"clip {first[name]} from 0 has it too"))


def _labels(survey: Survey, clips: Table, pairs: Sequence[Pair]) -> None:
    classes = survey.header.classes
    K = len(classes)
    if K:
        for index in np.flatnonzero((clips.label != UNKNOWN) & ((clips.label < 0) | (clips.label >= K))):
            survey.add_found(int(index), Found("label-range", f"label {clips.label[index]} is not in [0, {K})"))
    for fault, values, wanted in (
        ("label-missing", clips.label, K > 0),
        ("subject-missing", clips.subject, True),
        ("view-missing", clips.view, True),
    ):
        unknown = values == UNKNOWN
        if wanted and unknown.any() and not unknown.all():
            for index in np.flatnonzero(unknown):
                survey.add_found(int(index), Found(fault, f"the {fault.split('-')[0]} is unknown"))
    counts = np.bincount(clips.label[(clips.label >= 0) & (clips.label < K)], minlength=K)
    if not counts.any():
        return
    for label in range(K):
        if not counts[label]:
            survey.add("empty-class", Example(f"{classes[label]!r} (label {label}) has no clip"))
        for pair in pairs if counts[label] else ():
            if pair.train.any() and not (clips.label[pair.train] == label).any() and pair.by:
                text = f"{classes[label]!r} (label {label}) has no training clip in {pair.title}"
                survey.add("empty-class", Example(text))
    most, least = int(counts.max()), int(counts[counts > 0].min())
    if most > survey.limits.balance * least:
        for label in np.flatnonzero((counts > 0) & (counts * survey.limits.balance < most)):
            text = f"{classes[label]!r} has {counts[label]} clips, {classes[counts.argmax()]!r} has {most}"
            survey.add("unbalanced", Example(text))


def _copies(survey: Survey, clips: Table, pairs: Sequence[Pair]) -> None:
    for first, later in survey.copies.items():
        group = [first, *later]
        labels = {int(label) for label in clips.label[group] if label != UNKNOWN}
        found: list[tuple[str, list[int], int, str]] = []
        for pair in pairs:
            train, test = (np.array(group)[side[group]].tolist() for side in (pair.train, pair.test))
            # A clip that is on both sides is not its own copy.
            if train and test and len({*train, *test}) > 1:
                others = [index for index in train if index != test[0]] or train
                found.append(("duplicate-across-split", others, test[0], f", a test clip of {pair.title}"))
                break
        if len(labels) > 1:
            found.append(("duplicate-label", group[1:], group[0], f" with labels {sorted(labels)}"))
        for fault, copies, original, how in found or [("duplicate", group[1:], group[0], "")]:
            for index in copies:
                survey.add_found(index, Found(fault, f"it equals {clips.name[original]!r}{how}"))


def _split(survey: Survey, clips: Table, pair: Pair) -> None:
    for side, members in (("training", pair.train), ("test", pair.test)):
        if not members.any():
            survey.add("empty-split", Example(f"{pair.title} has no {side} clip"))
    for index in np.flatnonzero(pair.train & pair.test):
        survey.add_found(int(index), Found("split-overlap", f"it is on both sides of {pair.title}"))
    # A clip on both sides has been said; its subject is not another fault.
    train, test = pair.train & ~pair.test, pair.test & ~pair.train
    for by, values, fault in (
        ("subject", clips.subject, "subject-leak" if pair.by == "subject" else "" if pair.by else "subject-shared"),
        ("view", clips.view, "view-leak" if pair.by == "view" else ""),
    ):
        shared = (set(values[train].tolist()) & set(values[test].tolist())) - {UNKNOWN} if fault else set()
        for value in sorted(shared):
            here = [int((values[side] == value).sum()) for side in (train, test)]
            text = f"{by} {value} has {here[0]} training and {here[1]} test clips in {pair.title}"
            survey.add(fault, Example(text))


def _centred(survey: Survey, clips: Table, measured: Measured) -> None:
    """Joints at 0 that are no fault: those on which most clips are centred."""
    origins = Counter(measured.origin[measured.origin >= 0].tolist())
    centre, count = origins.most_common(1)[0] if origins else (-1, 0)
    usual = 2 * count > (clips.persons > 0).sum()
    for index, found in survey.lost_joints.items():
        if not (usual and measured.origin[index] == centre):
            survey.add_found(index, found)


def _sizes(survey: Survey, sizes: NDArray[np.float64]) -> None:
    known = np.isfinite(sizes)
    if not known.any() or survey.header.channels == "xys":
        return
    usual = float(np.median(sizes[known]))
    if known.sum() >= ENOUGH:
        factor = sizes / usual
        for index in np.flatnonzero((factor > survey.limits.size) | (factor < 1 / survey.limits.size)):
            text = f"the body is {factor[index]:.3g} times the usual {usual:.3g}"
            survey.add_found(int(index), Found("clip-scale", text))
    low, high = survey.limits.smallest, survey.limits.largest
    if anatomy(survey.header.skeleton).stands and not low <= usual <= high:
        units = [unit for unit, part in (("millimetres", 1000), ("centimetres", 100)) if low <= usual / part <= high]
        guess = f"these look like {units[0]}" if units else "neither metres nor millimetres"
        survey.add("units", Example(f"the usual body is {usual:.3g} across: {guess}"))


def _bones(survey: Survey, bones: NDArray[np.float32]) -> None:
    known = np.flatnonzero(np.isfinite(bones).any(1))
    if len(known) < ENOUGH:
        return
    # A bone that no clip has is usual.
    usual = np.nanmedian(np.where(np.isfinite(bones[known]).any(0), bones[known], 0), axis=0)
    beyond = np.nan_to_num(bones[known] - usual)
    edges, names = survey.header.skeleton.edges, survey.header.skeleton.names
    for row in np.flatnonzero((beyond > survey.limits.bone_of_set).any(1)):
        bone = int(beyond[row].argmax())
        a, b = edges[bone]
        times = bones[known[row], bone] / max(float(usual[bone]), 1e-9)
        text = f"the bone {names[a]} - {names[b]} is {times:.2g} times as long as in other clips, all the time"
        survey.add_found(int(known[row]), Found("bone-length", text, joints=(a, b)))


def _directions(survey: Survey, up: NDArray[np.float32], facing: NDArray[np.float64]) -> None:
    with np.errstate(all="ignore"):
        ups = up / np.linalg.norm(up.astype(np.float64), axis=1, keepdims=True)
    known = np.isfinite(ups).all(1)
    if not known.any():
        return
    flat = survey.header.channels == "xys"
    mean = ups[known].mean(0)
    axis = int(np.abs(mean).argmax())
    direction = np.zeros(3)
    direction[axis] = np.sign(mean[axis])
    if np.abs(mean[axis]) < AGREE:
        if flat:
            return
        direction = np.array([0.0, 1.0, 0.0])
    mirror = facing < -survey.limits.mirrored
    turned = direction[1] != 1
    if turned and not flat:  # in pictures y points down
        sign = "-" if direction[axis] < 0 else ""
        survey.add("up-axis", Example(f"heads are above feet along {sign}{AXES[axis]}; bodies are {_image(facing)}"))
    fallen = known & (ups @ direction < AGAINST)
    for index in np.flatnonzero(fallen):
        text = f"the head is below the feet; the body is {_image(facing[index : index + 1])}"
        survey.add_found(int(index), Found("upside-down", text))
    for index in np.flatnonzero(mirror & ~fallen) if not turned else ():
        text = f"the cosine between feet and front is {facing[index]:.2f}"
        survey.add_found(int(index), Found("mirrored", text))


def _image(facing: NDArray[np.float64]) -> str:
    known = facing[np.isfinite(facing)]
    if not len(known):
        return "turned or mirrored, which cannot be told"
    return "mirrored: left and right are exchanged" if np.median(known) < 0 else "turned, not mirrored"
