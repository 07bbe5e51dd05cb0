"""Sets with one planted fault each, made from a clean one, and the fault's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from sources import Entry, by_subject, changed, entries_of, header_of, small_set

from asma.data.source import UNKNOWN, Clip, Header, LeftOut, Track
from asma_kernels import Skeleton

NTU = Skeleton.builtin("ntu25")
HAND = 11
SET = small_set()
CLIPS = entries_of(SET, by_subject)
HEADER = header_of(SET, usual_split="xsub_train/xsub_val")


def with_clip(index: int, clip: Clip) -> list[Entry]:
    return [*CLIPS[:index], clip, *CLIPS[index + 1 :]]


def edited(change: Callable[[np.ndarray], object], index: int = 5, **fields: object) -> list[Entry]:
    return with_clip(index, changed(CLIPS[index], change, **fields))


def everywhere(change: Callable[[np.ndarray], object]) -> list[Entry]:
    return [changed(clip, change) for clip in CLIPS]


def put(where: object, value: object) -> Callable[[np.ndarray], None]:
    def change(data: np.ndarray) -> None:
        data[where] = value  # type: ignore[index]

    return change


def add(where: object, value: float) -> Callable[[np.ndarray], None]:
    def change(data: np.ndarray) -> None:
        data[where] += value  # type: ignore[index]

    return change


def scaled(factors: tuple[float, float, float]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda data: data * np.array(factors, np.float32)


def stretched(data: np.ndarray) -> None:
    """The right forearm and hand creep away for twenty frames and come back."""
    way = np.concatenate([np.linspace(0, 1.2, 10), np.linspace(1.2, 0, 10)])
    data[10:30, [10, 11, 23, 24], 0] += way[:, None]


def two(change: Callable[[np.ndarray, np.ndarray], tuple[Track, ...]]) -> list[Entry]:
    """A second person beside the first of one clip."""
    clip = CLIPS[3]
    first = clip.tracks[0].data
    second = CLIPS[11].tracks[0].data[: len(first)] + np.array([1.2, 0, 0], np.float32)
    length = min(len(first), len(second))
    return with_clip(3, replace(clip, frames=length, tracks=change(first[:length].copy(), second[:length].copy())))


def swap(first: np.ndarray, second: np.ndarray) -> tuple[Track, ...]:
    first[20:], second[20:] = second[20:].copy(), first[20:].copy()
    return Track(0, 0, first), Track(1, 0, second)


def three(first: np.ndarray, second: np.ndarray) -> tuple[Track, ...]:
    third = second + np.array([1.2, 0, 0.5], np.float32)
    return Track(0, 0, first), Track(1, 0, second), Track(2, 0, third)


def without(labels: set[int]) -> list[Entry]:
    return [clip for clip in CLIPS if clip.label not in labels]


def unbalanced() -> list[Entry]:
    rare = [clip for clip in CLIPS if clip.label == 2][:1]
    more = [changed(clip, scaled((1, 1, 1.01)), name=f"{clip.name} again") for clip in CLIPS if clip.label < 2]
    return [*without({2}), *more, *rare]


A_TRAIN = next(clip for clip in CLIPS if clip.splits == ("xsub_train",))
A_TEST = next(clip for clip in CLIPS if clip.splits == ("xsub_val",))
OTHERS = [clip for clip in CLIPS if clip is not A_TRAIN]
FLAT = Header("2D", NTU, "xys", SET.classes)


def flat_clips(score: float = 0.9) -> list[Clip]:
    """In pixels, y down, with a score."""

    def project(data: np.ndarray) -> np.ndarray:
        flat = data * np.array([-300, -300, 0]) + np.array([960, 540, score])
        return flat.astype(np.float32)

    return [changed(clip, project) for clip in CLIPS]


PLANTED: dict[str, tuple[str, list[Entry]]] = {
    "a file that is damaged": ("unreadable", [*CLIPS, ValueError("S001.skeleton: line 7: the number of bodies ...")]),
    "a file that cannot be opened": ("unreadable", [*CLIPS, PermissionError("S001.skeleton: permission denied")]),
    "a file that is not there": ("missing-file", [*CLIPS, FileNotFoundError("S001.skeleton: no such file")]),
    "a clip that is damaged": ("unreadable", [*CLIPS, LeftOut("set.pkl, clip 9", "keypoint must be (M, T, V, C)")]),
    "what the reader cleans up": ("left-out", [*CLIPS, LeftOut("S001.skeleton", "short bodies: body 3 is left out")]),
    "a clip that the reader left out for NaN": (
        "non-finite", [*CLIPS, LeftOut("set.pkl, clip 9", "coordinates must be finite, got nan at frame 3")],
    ),
    "a clip that the reader left out for its label": (
        "label-range", [*CLIPS, LeftOut("set.pkl, clip 9", "label must be in [0, 60), got 60")],
    ),
    "no body": ("no-body", with_clip(2, replace(CLIPS[2], tracks=()))),
    "only zeros": ("no-body", edited(put(np.s_[:], 0))),
    "NaN in one coordinate": ("non-finite", edited(put(np.s_[7, 3, 1], np.nan))),
    "infinity": ("non-finite", edited(put(np.s_[7, 3, 1], np.inf))),
    "nobody for some frames": (
        "empty-frames",
        with_clip(4, replace(CLIPS[4], tracks=(
            Track(0, 0, CLIPS[4].tracks[0].data[:12]), Track(0, 18, CLIPS[4].tracks[0].data[18:]),
        ))),
    ),
    "zeros in the middle": ("zero-frames", edited(put(np.s_[12:15], 0))),
    "zeros at the end": ("zero-padding", edited(put(np.s_[-6:], 0))),
    "zeros at the begin": ("zero-padding", edited(put(np.s_[:6], 0))),
    "a lost joint": ("zero-joints", edited(put(np.s_[20:23, HAND], 0))),
    "a lost joint in the first frame": ("zero-joints", edited(put(np.s_[0, HAND], 0))),
    "three persons": ("many-persons", two(three)),
    "persons who swap": ("swapped-persons", two(swap)),
    "a person twice": ("twin-persons", two(lambda first, second: (Track(0, 0, first), Track(1, 0, first)))),
    "one frame": ("short", edited(lambda data: data[:1])),
    "a stalled sensor": ("frozen", edited(lambda data: np.insert(data, [20] * 12, data[19], 0))),
    "nothing moves": ("frozen", edited(lambda data: data[:1].repeat(9, 0))),
    "padding by the last frame": ("padding", edited(lambda data: np.concatenate([data, data[-1:].repeat(15, 0)]))),
    "padding by the first frame": ("padding", edited(lambda data: np.concatenate([data[:1].repeat(15, 0), data]))),
    "padding by repetition": ("looped", edited(lambda data: np.concatenate([data, data[:25]]))),
    "a bone that grows": ("bone-length", edited(stretched)),
    "a bone that is always long": (
        "bone-length", edited(add(np.s_[:, [2, 3], 1], 0.9)),
    ),
    "a joint that jumps": ("teleport", edited(put(np.s_[20, HAND, 0], 4.0))),
    "a body that jumps": ("teleport", edited(add(np.s_[25:], 3))),
    "one clip in millimetres": ("clip-scale", edited(scaled((1000, 1000, 1000)))),
    "all clips in millimetres": ("units", everywhere(scaled((1000, 1000, 1000)))),
    "a clip on its head": ("upside-down", edited(scaled((-1, -1, 1)))),
    "a clip with y down": ("upside-down", edited(scaled((1, -1, 1)))),
    "all clips with y down": ("up-axis", everywhere(scaled((1, -1, 1)))),
    "all clips with z up": ("up-axis", everywhere(lambda data: data[..., [0, 2, 1]])),
    "a mirrored clip": ("mirrored", edited(scaled((-1, 1, 1)))),
    "all clips mirrored": ("mirrored", everywhere(scaled((-1, 1, 1)))),
    "a label too high": ("label-range", with_clip(5, replace(CLIPS[5], label=3))),
    "a negative label": ("label-range", with_clip(5, replace(CLIPS[5], label=-7))),
    "a clip without a label": ("label-missing", with_clip(5, replace(CLIPS[5], label=UNKNOWN))),
    "a clip without a subject": ("subject-missing", with_clip(5, replace(CLIPS[5], subject=UNKNOWN))),
    "a clip without a view": ("view-missing", with_clip(5, replace(CLIPS[5], view=UNKNOWN))),
    "a class without clips": ("empty-class", without({1})),
    "a class to test only": (
        "empty-class", [clip for clip in CLIPS if clip.label != 1 or clip.splits == ("xsub_val",)],
    ),
    "few clips of a class": ("unbalanced", unbalanced()),
    "a name twice": ("duplicate-name", with_clip(5, replace(CLIPS[5], name=CLIPS[6].name))),
    "a clip twice": ("duplicate", [*CLIPS, replace(CLIPS[5], name="copy")]),
    "a clip twice, by two labels": (
        "duplicate-label", [*CLIPS, replace(CLIPS[5], name="copy", label=(CLIPS[5].label + 1) % 3)],
    ),
    "a test clip to train on": (
        "duplicate-across-split",
        [*CLIPS, replace(A_TEST, name="copy", subject=A_TRAIN.subject, splits=("xsub_train",))],
    ),
    "a clip on both sides": ("split-overlap", [*OTHERS, replace(A_TRAIN, splits=("xsub_train", "xsub_val"))]),
    "a side without clips": ("empty-split", [clip for clip in CLIPS if clip.splits == ("xsub_train",)]),
    "a subject on both sides": ("subject-leak", [*OTHERS, replace(A_TRAIN, splits=("xsub_val",))]),
}  # fmt: skip
