"""The doctor finds what is planted, by its name and nothing else, and nothing in clean sets."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tyro
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import Entry, Listed, by_subject, changed, entries_of, header_of, small_set, source_of

from asma.data import builtin_clips, load_clips
from asma.data.source import UNKNOWN, Clip, Header, LeftOut, Track
from asma.doctor.command import Doctor, run_doctor
from asma.doctor.faults import FAULTS, Limits
from asma.doctor.survey import examine
from asma.doctor.table import table
from asma_kernels import Skeleton

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
NTU = Skeleton.builtin("ntu25")
HAND, SHOULDER, ELBOW = 11, 8, 9
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


def named(clips: list[Clip], **splits: tuple[str, ...]) -> list[Entry]:
    """Splits by names of clips."""
    return [replace(clip, splits=splits.get(clip.name, clip.splits)) for clip in clips]


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


def found_in(entries: list[Entry], header: Header = HEADER, **options: object) -> dict[str, int]:
    diagnosis = examine(Listed(header, {"part": entries}), **options)  # type: ignore[arg-type]
    return {finding.fault.name: finding.count for finding in diagnosis.findings}


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_fault_is_found_and_nothing_else(case: str) -> None:
    name, entries = PLANTED[case]
    diagnosis = examine(Listed(HEADER, {"part": entries}))
    assert [finding.fault.name for finding in diagnosis.findings] == [name]
    (finding,) = diagnosis.findings
    assert finding.count == 24 if case == "all clips mirrored" else finding.count == 1
    assert diagnosis.fit == (finding.fault.severity != "error")
    assert finding.examples and all(example.text for example in finding.examples)


def test_examples_say_where() -> None:
    (finding,) = examine(Listed(HEADER, {"part": PLANTED["NaN in one coordinate"][1]})).findings
    (example,) = finding.examples
    assert (example.clip, example.frame, example.joints) == (CLIPS[5].name, 7, (3,))
    assert example.source == "made.npz, clip 5" and "head" in example.text
    (finding,) = examine(Listed(HEADER, {"part": PLANTED["a joint that jumps"][1]})).findings
    assert finding.examples[0].joints == (HAND,) and finding.examples[0].frame in (20, 21)
    (finding,) = examine(Listed(HEADER, {"part": PLANTED["persons who swap"][1]})).findings
    assert finding.examples[0].frame == 20


def test_split_faults_that_names_of_splits_tell() -> None:
    by_view = [
        replace(clip, view=i % 2, splits=("xview_train" if i % 3 else "xview_test",)) for i, clip in enumerate(CLIPS)
    ]
    assert found_in(by_view, replace(HEADER, usual_split="")) == {"view-leak": 2}
    by_chance = [replace(clip, splits=("train" if i % 4 else "test",)) for i, clip in enumerate(CLIPS)]
    assert set(found_in(by_chance, replace(HEADER, usual_split=""))) == {"subject-shared"}
    unsplit = [replace(clip, splits=()) for clip in CLIPS]
    assert found_in(unsplit, replace(HEADER, usual_split="cross-subject, in words")) == {}
    assert found_in(unsplit, protocol="subject-12-34") == {}
    with pytest.raises(ValueError, match="protocol"):
        found_in(unsplit, protocol="subject-12")
    with pytest.raises(ValueError, match="xsub_train, xsub_val"):
        found_in(CLIPS, protocol="a/b")


def test_a_copy_across_a_protocol_is_worse_than_a_copy() -> None:
    copy = replace(CLIPS[0], name="copy", subject=CLIPS[0].subject + 1, splits=())
    entries = [*(replace(clip, splits=()) for clip in CLIPS), copy]
    assert found_in(entries, protocol="subject-13-24") == {"duplicate-across-split": 1}
    assert found_in(entries) == {"duplicate": 1}


def test_ntu_names_that_are_known_to_be_bad() -> None:
    bad = CLIPS[7].name
    assert found_in(CLIPS, known_bad=lambda name: name == bad) == {"known-bad": 1}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nothing_is_found_in_the_built_in_set(seed: int) -> None:
    diagnosis = examine(source_of(builtin_clips(seed, classes=18 if seed else 12, views=3 - seed)))
    assert diagnosis.findings == [] and diagnosis.fit and diagnosis.status == 0
    assert len(diagnosis.clips) >= 648 and diagnosis.sides


def test_nothing_is_found_after_the_usual_preprocessing() -> None:
    """A centre joint that is 0 in all frames (PSTL) or in the first (CTR-GCN) is no lost joint."""
    frame_by_frame = [changed(clip, lambda data: data - data[:, 20:21]) for clip in CLIPS]
    assert found_in(frame_by_frame) == {}
    clip_by_clip = [changed(clip, lambda data: data - data[:1, 1:2]) for clip in CLIPS]
    assert found_in(clip_by_clip) == {}
    clip_by_clip[3] = changed(clip_by_clip[3], put(np.s_[9, 4], 0))
    assert found_in(clip_by_clip) == {"zero-joints": 1}


def test_pictures_have_y_down_and_joints_that_were_not_seen() -> None:
    clips = [replace(clip, splits=()) for clip in flat_clips()]
    assert found_in(clips, FLAT) == {}
    unseen = [changed(clip, put(np.s_[5:9, HAND], 0)) for clip in clips]
    assert found_in(unseen, FLAT) == {}
    assert found_in([changed(clips[0], put(np.s_[5:9, HAND, :2], 0)), *clips[1:]], FLAT) == {"zero-joints": 1}
    # Where the estimator guessed, a jump is no fault of the data.
    for score, expected in ((0.9, {"teleport": 1}), (0.1, {})):
        jump = changed(clips[0], put(np.s_[9, HAND], (4000, 540, score)))
        assert found_in([jump, *clips[1:]], FLAT) == expected
    standing_on_its_head = changed(clips[0], lambda data: data * np.array([1, -1, 1], np.float32))
    assert found_in([standing_on_its_head, *clips[1:]], FLAT) == {"upside-down": 1}


def test_skeletons_without_telling_names_are_examined_too() -> None:
    chain = Skeleton.from_edges([(0, 1), (1, 2)])
    rng = np.random.default_rng(0)
    walk = rng.normal(size=(12, 30, 3, 3)).cumsum(1) * 0.02 + np.arange(3)[:, None]
    clips: list[Entry] = [
        Clip(f"c{i}", 30, (Track(0, 0, data.astype(np.float32)),), i % 2) for i, data in enumerate(walk)
    ]
    header = Header("chain", chain, "xyz", ("a", "b"))
    assert found_in(clips, header) == {}
    assert found_in([clips[0], *clips[1:], replace(clips[3], name="copy")], header) == {"duplicate": 1}  # type: ignore[type-var]


def real(name: str) -> object:
    if not (SHARED / f"{name}.npz").exists():
        pytest.skip(f"{name} is not in the project's data folder; it may not be redistributed")
    return load_clips(SHARED / f"{name}.npz")


def test_utd_mhad_is_clean() -> None:
    assert examine(source_of(real("utd_mhad")), protocol="subject-odd-even").findings == []


def test_what_is_wrong_with_nw_ucla() -> None:
    """Looked at by hand: 95 of the 464 clips of view 3 are bit by bit those of view 2; two have one frame; a joint
    is at the camera in 12 frames; bodies are lost and found again elsewhere; a hip is 2.6 body sizes away."""
    diagnosis = examine(source_of(real("nw_ucla")), protocol="view-12-3")
    found = {finding.fault.name: finding.count for finding in diagnosis.findings}
    assert found == {"duplicate-across-split": 95, "zero-joints": 2, "short": 2, "bone-length": 3, "teleport": 16}
    assert diagnosis.status == 1


def test_nothing_readable_is_status_2() -> None:
    for parts in ({}, {"a": [ValueError("a: no")]}, {"a": [LeftOut("a", "no")]}):
        diagnosis = examine(Listed(HEADER, parts))  # type: ignore[arg-type]
        assert diagnosis.status == 2 and not diagnosis.fit
        assert "not one clip" in table(diagnosis)


def test_a_part_that_breaks_off_keeps_what_came_before() -> None:
    source = Listed(HEADER, {"a": [*CLIPS[:20], ValueError("a: cut off")], "b": list(CLIPS[20:])})
    diagnosis = examine(source)
    assert len(diagnosis.clips) == 24
    assert [finding.fault.name for finding in diagnosis.findings] == ["unreadable"]


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_numbers_are_examined(data: st.DataObject) -> None:
    """Whatever coordinates are, there is an answer and no warning of NumPy's."""
    values = st.sampled_from([0.0, -0.0, 1.0, -2.5, 1e-30, 3e38, -3e38, float("inf"), float("-inf"), float("nan")])
    skeleton = (
        Skeleton.builtin("coco17") if data.draw(st.booleans()) else Skeleton.from_edges([(0, 1)], names=["a", "b"])
    )
    entries: list[Entry] = []
    for i in range(data.draw(st.integers(1, 4))):
        frames = data.draw(st.integers(1, 6))
        tracks = []
        for person in range(data.draw(st.integers(0, 3))):
            start = data.draw(st.integers(0, frames - 1))
            shape = (data.draw(st.integers(1, frames - start)), skeleton.num_joints, 3)
            chosen = data.draw(st.lists(values, min_size=1, max_size=7))
            tracks.append(Track(person * 7, start, np.resize(np.array(chosen, np.float32), shape)))
        label, subject = data.draw(st.integers(-2, 3)), data.draw(st.integers(-1, 2))
        splits = tuple(data.draw(st.sets(st.sampled_from(["train", "val", "x"]))))
        entries.append(Clip(data.draw(st.text(max_size=3)), frames, tuple(tracks), label, subject, i % 2 - 1, splits))
    header = Header("any", skeleton, data.draw(st.sampled_from(["xyz", "xys"])), ("a", "b"), "subject-odd-even")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        diagnosis = examine(Listed(header, {"part": entries}))
    assert len(diagnosis.clips) == len(entries)
    assert table(diagnosis)
    json.loads(json.dumps(diagnosis.as_dict(), allow_nan=False))


def test_limits_are_checked_and_can_be_moved() -> None:
    jump = PLANTED["a joint that jumps"][1]
    assert found_in(jump, limits=Limits(teleport=100, bone=100)) == {}
    assert found_in(CLIPS, limits=Limits(shortest=1000)) == {"short": 24}
    with pytest.raises(ValueError, match="limits.bone must be positive"):
        Limits(bone=0)
    with pytest.raises(ValueError, match="limits.frozen must be at least 1"):
        Limits(frozen=0)
    with pytest.raises(ValueError, match="limits.largest"):
        Limits(smallest=2, largest=1)


def test_the_table_cannot_move_the_cursor() -> None:
    name = "a\x1b[2Jb\r\nc"
    text = table(
        examine(Listed(replace(HEADER, title=name), {"p": with_clip(2, replace(CLIPS[2], name=name, tracks=()))}))
    )
    assert "\x1b" not in text and "\r" not in text and "a\\x1b[2Jb" in text


def test_every_fault_says_what_it_is_and_what_to_do() -> None:
    assert len(FAULTS) >= 20
    covered = {name for name, _ in PLANTED.values()} | {"known-bad", "view-leak", "subject-shared"}
    assert covered == set(FAULTS)
    page = (Path(__file__).parent.parent / "docs" / "data.md").read_text()
    for fault in FAULTS.values():
        assert re.search(rf"^\| .*`{fault.name}`.* \| {fault.severity} \|", page, re.MULTILINE), fault.name
        assert fault.what.endswith((".", "..")) and fault.advice.endswith(".")


def test_the_command_prints_and_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = {"clean": list(CLIPS), "bad": PLANTED["NaN in one coordinate"][1], "none": [ValueError("no")]}

    def opened(path: Path, format: str) -> Listed:
        return Listed(HEADER, {"part": sources[path.name]})  # type: ignore[dict-item]

    for name, status, said in (
        ("clean", 0, "fit for training"),
        ("bad", 1, "non-finite"),
        ("none", 2, "cannot be read"),
    ):
        options = Doctor(Path(name), html=tmp_path / f"{name}.html")
        assert run_doctor(options, opened, known_bad=lambda name: False) == status
        assert said in capsys.readouterr().out
        assert said in (tmp_path / f"{name}.html").read_text()
        assert run_doctor(Doctor(Path(name), json=True), opened, known_bad=lambda name: False) == status
        assert json.loads(capsys.readouterr().out)["status"] == status


def test_the_options_are_those_of_a_command_line(tmp_path: Path) -> None:
    words = ["set.npz", "--html", str(tmp_path / "a.html"), "--no-cut-loops", "--limits.teleport", "2", "--json"]
    options = tyro.cli(Doctor, args=words)
    assert (options.source, options.json, options.fix) == (Path("set.npz"), True, None)
    assert not options.fixes.cut_loops and options.fixes.cut_zeros and options.limits.teleport == 2


def test_the_command_refuses_before_it_reads(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("x")
    with pytest.raises(FileExistsError, match="there exists already"):
        Doctor(Path("x"), html=tmp_path / "there")
    with pytest.raises(FileExistsError, match="there exists already"):
        Doctor(Path("x"), fix=tmp_path / "there")
    with pytest.raises(FileNotFoundError, match="not a folder"):
        Doctor(Path("x"), html=tmp_path / "no" / "page.html")
    with pytest.raises(ValueError, match="examples"):
        Doctor(Path("x"), examples=-1)
