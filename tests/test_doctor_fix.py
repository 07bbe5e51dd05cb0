"""The cleaned copy: what each fix does and counts, what it leaves alone, and that nothing is left to fix."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ntu_text import SENSOR_ID, pose, text
from sources import Entry, Listed, by_subject, changed, entries_of, header_of, kept_in, small_set

from asma.data import open_store
from asma.data.source import UNKNOWN, Clip, Header, LeftOut, Track
from asma.doctor.command import Doctor, run_doctor
from asma.doctor.faults import FAULTS, Limits
from asma.doctor.fix import Fixed, Fixes, fix, mend
from asma.doctor.survey import examine
from asma_kernels import Skeleton

SET = small_set()
CLIPS = entries_of(SET, by_subject)
HEADER = header_of(SET, usual_split="xsub_train/xsub_val")
NONE = Fixes(**{field.name: False for field in fields(Fixes)})
TRAIN = next(i for i, clip in enumerate(CLIPS) if clip.splits == ("xsub_train",))
TEST = next(i for i, clip in enumerate(CLIPS) if clip.splits == ("xsub_val",))


def with_clip(index: int, clip: Clip) -> list[Entry]:
    return [*CLIPS[:index], clip, *CLIPS[index + 1 :]]


def edited(change: object, index: int = 5, **changes: object) -> list[Entry]:
    return with_clip(index, changed(CLIPS[index], change, **changes))  # type: ignore[arg-type]


def put(where: object, value: object) -> object:
    def change(data: np.ndarray) -> None:
        data[where] = value  # type: ignore[index]

    return change


def cleaned(
    entries: list[Entry], tmp_path: Path, header: Header = HEADER, **options: object
) -> tuple[list[Clip], Fixed]:
    kept: list[Clip] = []
    done = fix(Listed(header, {"part": entries}), tmp_path / "out", kept_in(kept), **options)  # type: ignore[arg-type]
    assert done.kept == len(kept)
    return kept, done


def same(one: Clip, other: Clip) -> bool:
    fields_equal = replace(one, tracks=()) == replace(other, tracks=()) or (
        (one.name, one.frames, one.label, one.subject, one.view, one.splits, one.source)
        == (other.name, other.frames, other.label, other.subject, other.view, other.splits, other.source)
    )
    return (
        fields_equal
        and len(one.tracks) == len(other.tracks)
        and all(
            a[:2] == b[:2] and np.array_equal(a.data, b.data) for a, b in zip(one.tracks, other.tracks, strict=True)
        )
    )


# Fix -> entries that need it.
NEEDED: dict[str, list[Entry]] = {
    "cut_non_finite": edited(put(np.s_[7, 3, 1], np.nan)),
    "cut_zeros": edited(put(np.s_[-6:], 0)),
    "cut_loops": edited(lambda data: np.concatenate([data, data[:25]])),
    "cut_frozen": edited(lambda data: np.concatenate([data, data[-1:].repeat(15, 0)])),
    "cut_empty": with_clip(4, replace(CLIPS[4], frames=CLIPS[4].frames + 7)),
    "drop_no_body": with_clip(2, replace(CLIPS[2], tracks=())),
    "drop_short": edited(lambda data: data[:1]),
    "drop_labels": with_clip(5, replace(CLIPS[5], label=3)),
    "drop_duplicates": [*CLIPS, replace(CLIPS[5], name="copy")],
    "mend_splits": with_clip(TEST, replace(CLIPS[TEST], splits=("xsub_train", "xsub_val"))),
    "rename": with_clip(5, replace(CLIPS[5], name=CLIPS[6].name)),
    "unreadable": [*CLIPS, LeftOut("x", "damaged"), ValueError("cut off")],
}  # fmt: skip


@pytest.mark.parametrize("name", NEEDED)
def test_each_fix_is_counted_and_mends_its_fault(name: str, tmp_path: Path) -> None:
    kept, done = cleaned(NEEDED[name], tmp_path)
    # Where the only person's frames are gone, nobody is left in them.
    empty = {"cut_empty": 1} if name in ("cut_non_finite", "cut_zeros") else {}
    assert dict(done.counts) == {name: 2 if name == "unreadable" else 1} | empty
    left = examine(Listed(HEADER, {"part": list(kept)}))
    assert left.findings == [], left.findings
    if name == "unreadable":
        return
    # Switched off, the fault stays; switched on alone, it goes.
    stays, done = cleaned(NEEDED[name], tmp_path, fixes=replace(Fixes(), **{name: False}))
    assert name not in done.counts and examine(Listed(HEADER, {"part": list(stays)})).findings
    _, done = cleaned(NEEDED[name], tmp_path, fixes=replace(NONE, **{name: True}))
    assert set(done.counts) == {name}


def test_every_fix_is_tried() -> None:
    assert {field.name for field in fields(Fixes)} == set(NEEDED) - {"unreadable"} | {"drop_known_bad"}


def test_known_bad_recordings_are_left_out(tmp_path: Path) -> None:
    bad = CLIPS[7].name
    kept, done = cleaned(list(CLIPS), tmp_path, known_bad=lambda name: name == bad)
    assert dict(done.counts) == {"drop_known_bad": 1} and bad not in [clip.name for clip in kept]


def test_a_clean_set_stays_what_it_is(tmp_path: Path) -> None:
    kept, done = cleaned(list(CLIPS), tmp_path)
    assert not done.counts
    assert all(same(one, other) for one, other in zip(kept, CLIPS, strict=True))


def test_with_all_fixes_off_everything_stays(tmp_path: Path) -> None:
    for name, entries in NEEDED.items():
        kept, done = cleaned(entries, tmp_path, fixes=NONE)
        assert set(done.counts) <= {"unreadable"}, name
        given = [entry for entry in entries if isinstance(entry, Clip)]
        assert len(kept) == len(given)
        for one, other in zip(kept, given, strict=True):
            assert one.frames == other.frames and one.splits == other.splits and one.name == other.name


def test_frames_go_where_they_belong() -> None:
    """Two persons, of whom the second has NaN in the middle and leaves early; nobody is there at the end."""
    first = np.arange(1, 9, dtype=np.float32).reshape(8, 1, 1) * np.ones((1, 25, 3), np.float32)
    second = 100 + first
    second[3, 4, 1] = np.nan
    clip = Clip("a", 12, (Track(0, 2, first), Track(5, 0, second)))
    mended, done = mend(clip, HEADER, Fixes(), Limits())
    assert done == ["cut_non_finite", "cut_empty"]
    assert [(track.person, track.start, len(track.data)) for track in mended.tracks] == [
        (0, 2, 8),
        (5, 0, 3),
        (5, 4, 4),
    ]
    assert mended.frames == 10
    assert np.array_equal(mended.tracks[1].data, second[:3]) and np.array_equal(mended.tracks[2].data, second[4:])
    assert np.array_equal(clip.tracks[1].data, second, equal_nan=True)  # what was given is as it was


def test_of_copies_the_test_clip_is_kept(tmp_path: Path) -> None:
    copy = replace(CLIPS[TEST], name="copy", splits=("xsub_train",), subject=CLIPS[TRAIN].subject)
    kept, _ = cleaned([copy, *CLIPS], tmp_path)
    assert "copy" not in [clip.name for clip in kept] and len(kept) == len(CLIPS)
    kept, _ = cleaned([*CLIPS, replace(CLIPS[5], name="copy")], tmp_path)
    assert "copy" not in [clip.name for clip in kept]


def test_copies_with_different_labels_all_go(tmp_path: Path) -> None:
    copy = replace(CLIPS[5], name="copy", label=(CLIPS[5].label + 1) % 3)
    kept, done = cleaned([*CLIPS, copy], tmp_path)
    assert len(kept) == len(CLIPS) - 1 and done.counts["drop_duplicates"] == 2
    kept, _ = cleaned([*CLIPS, replace(copy, label=UNKNOWN)], tmp_path)
    assert len(kept) == len(CLIPS)


def test_copies_that_only_padding_tells_apart_are_copies(tmp_path: Path) -> None:
    padded = changed(CLIPS[5], lambda data: np.concatenate([data, data[-1:].repeat(15, 0)]), name="padded")
    kept, done = cleaned([*CLIPS, padded], tmp_path)
    assert len(kept) == len(CLIPS) and dict(done.counts) == {"cut_frozen": 1, "drop_duplicates": 1}


def test_names_become_unique_without_taking_another_clips_name(tmp_path: Path) -> None:
    names = ["a", "a", "a (2)", "a", "a (2)"]
    kept, done = cleaned([replace(clip, name=name) for clip, name in zip(CLIPS, names, strict=False)], tmp_path)
    assert [clip.name for clip in kept] == ["a", "a (3)", "a (2)", "a (4)", "a (2) (2)"]
    assert done.counts["rename"] == 3


def test_the_source_and_what_exists_are_left_alone(tmp_path: Path) -> None:
    before = [clip.tracks[0].data.copy() for clip in CLIPS]
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="out exists already"):
        cleaned(list(CLIPS), tmp_path)
    (tmp_path / "out").unlink()
    cleaned(NEEDED["cut_non_finite"], tmp_path)
    assert all(np.array_equal(clip.tracks[0].data, data) for clip, data in zip(CLIPS, before, strict=True))
    assert list(tmp_path.iterdir()) == []


def test_nothing_left_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    def write(clips: Iterable[Clip], header: Header, path: Path) -> None:
        raise AssertionError("called")

    for entries in ([], [replace(CLIPS[0], tracks=())], [ValueError("no")]):
        with pytest.raises(ValueError, match="nothing is left"):
            fix(Listed(HEADER, {"part": entries}), tmp_path / "out", write)  # type: ignore[arg-type,dict-item]


def test_clips_that_the_writer_does_not_take_are_counted(tmp_path: Path) -> None:
    def write(clips: Iterable[Clip], header: Header, path: Path) -> list[LeftOut]:
        return [LeftOut(clip.source, "no") for clip in clips][:2]

    done = fix(Listed(HEADER, {"part": list(CLIPS)}), tmp_path / "out", write)
    assert done.kept == len(CLIPS) - 2 and dict(done.counts) == {"refused": 2}


def test_a_source_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    class Growing(Listed):
        def read(self, part: str):  # type: ignore[no-untyped-def]
            yield from super().read(part)
            self._entries[part] = [replace(CLIPS[0], name="new"), *self._entries[part]]

    with pytest.raises(ValueError, match="part changed while it was being read"):
        fix(Growing(HEADER, {"part": list(CLIPS)}), tmp_path / "out", kept_in([]))


def test_the_command_cleans_and_answers_for_the_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stores: dict[Path, list[Clip]] = {}

    def opened(path: Path, format: str) -> Listed:
        entries = NEEDED["cut_non_finite"] if path == Path("bad") else list(stores[path])
        return Listed(HEADER, {"part": list(entries)})

    def write(clips: Iterable[Clip], header: Header, path: Path) -> None:
        stores[path] = list(clips)

    options = Doctor(Path("bad"), fix=tmp_path / "clean")
    assert run_doctor(options, opened, write, known_bad=lambda name: False) == 0
    out = capsys.readouterr().out
    assert "unfit for training" in out and "cut_non_finite" in out and out.rstrip().endswith("fit for training")
    assert len(stores[tmp_path / "clean"]) == len(CLIPS)


def test_a_folder_of_ntu_is_examined_as_recorded_and_its_copy_has_persons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("asma._host", reason="asma._host was not built: Python.h is needed for it")

    def walk(seed: int) -> list[list[tuple[int, np.ndarray]]]:
        return [[(SENSOR_ID, pose(seed, (0.02 * t, 0, 3)))] for t in range(30)]

    chairs = [(SENSOR_ID + number, pose(number) * [9, 0.1, 1]) for number in (1, 2)]
    broken = walk(3)
    broken[4][0][1][3, 2] = np.nan
    recordings = {
        "S001C002P005R002A008": walk(0),  # on NTU's list
        "S001C001P001R001A001": [[], *([*bodies, *chairs] for bodies in walk(1))],
        "S001C001P001R001A002": [[], []],
        "S001C001P001R001A003": broken,
    }
    folder = tmp_path / "ntu"
    folder.mkdir()
    for name, frames in recordings.items():
        (folder / f"{name}.skeleton").write_text(text(frames))
    options = Doctor(folder, fix=tmp_path / "store", json=True)
    run_doctor(options)
    report = json.loads(capsys.readouterr().out)
    found = {finding["fault"]: [each["clip"] for each in finding["examples"]] for finding in report["findings"]}
    assert found["known-bad"] == ["S001C002P005R002A008"] and found["no-body"] == ["S001C001P001R001A002"]
    assert found["many-persons"] == found["empty-frames"] == ["S001C001P001R001A001"] and "non-finite" in found
    steps = {"frames with NaN": 1, "wide bodies": 2, "empty frames": 1, "no body": 1}
    assert report["fixed"]["fixes"] == steps | {"drop_known_bad": 1}
    store = open_store(tmp_path / "store")
    assert sorted(zip(store.name.tolist(), store.lengths.tolist(), strict=True)) == [
        ("S001C001P001R001A001", 30), ("S001C001P001R001A003", 29),
    ]  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_nothing_that_a_fix_is_for_is_left(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Clips put together of frames, copies, zeros and NaN; the doctor finds none of the faults that fixes are for."""
    chain = Skeleton.from_edges([(0, 1)])
    frame = st.integers(1, 3) | st.sampled_from([0, -1])
    entries: list[Entry] = []
    for i in range(data.draw(st.integers(1, 5))):
        tracks, T = [], data.draw(st.integers(1, 30))
        for person in range(data.draw(st.integers(0, 2))):
            numbers = data.draw(st.lists(frame, min_size=1, max_size=T))
            start = data.draw(st.integers(0, T - len(numbers)))
            frames = np.array(numbers, np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
            tracks.append(Track(person, start, np.where(frames < 0, np.nan, frames)))
        splits = tuple(sorted(data.draw(st.sets(st.sampled_from(["train", "test"])))))
        name = data.draw(st.sampled_from(["a", "b", f"c{i}"]))
        entries.append(Clip(name, T, tuple(tracks), data.draw(st.integers(-1, 2)), UNKNOWN, UNKNOWN, splits))
    header = Header("any", chain, "xyz", ("a", "b"))
    kept: list[Clip] = []
    try:
        fix(Listed(header, {"part": entries}), tmp_path_factory.mktemp("fix") / "out", kept_in(kept))
    except ValueError as error:
        assert "nothing is left" in str(error)
        return
    left = {finding.fault.name for finding in examine(Listed(header, {"part": list(kept)})).findings}
    promised = {name for name, fault in FAULTS.items() if "--fix" in fault.advice} - {"left-out"}
    assert promised >= {"no-body", "non-finite", "frozen", "looped", "duplicate", "split-overlap", "duplicate-name"}
    assert not left & promised
