"""Folders of NTU's .skeleton files: found, read, cleaned, written, and what of them is left out."""

import os
import pickle
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ntu_text import SENSOR_ID, pose, text

from asma.data import builtin_clips
from asma.data.bodies import CleanUp, count_steps
from asma.data.formats import _ntu_sets, ntu
from asma.data.source import UNKNOWN, Clip, Header, LeftOut, Track
from asma_kernels import Skeleton

pytest.importorskip("asma._host", reason="asma._host was not built: Python.h is needed for it")

HEADER = Header("made", Skeleton.builtin("ntu25"), "xyz", tuple("abcdefg"), "subject-odd-even")
NAME = "S001C002P003R002A013"


def walker(frames=20, seed=0, at=(0.0, 0.0, 3.0)):
    """Poses of one body that moves to the side, one a frame."""
    return [pose(seed, (at[0] + 0.02 * t, at[1], at[2])) for t in range(frames)]


def folder_of(tmp_path, **texts):
    for name, content in texts.items():
        file = tmp_path / f"{name}.skeleton"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path


def one_person(frames=20):
    return text([[(SENSOR_ID, joints)] for joints in walker(frames)])


def entries(source):
    return [entry for part in source.parts for entry in source.read(part)]


def clips_of(source):
    return [entry for entry in entries(source) if isinstance(entry, Clip)]


def left_out_of(source):
    return {entry.source: entry.reason for entry in entries(source) if isinstance(entry, LeftOut)}


def dense(clip, persons=2):
    out = np.zeros((clip.frames, persons, 25, 3), np.float32)
    for track in clip.tracks:
        out[track.start : track.start + len(track.data), track.person] = track.data
    return out


def test_a_file_becomes_a_clip(tmp_path):
    source = ntu.open_source(folder_of(tmp_path, **{NAME: one_person()}))
    (clip,) = entries(source)
    assert (clip.name, clip.frames, clip.label, clip.subject, clip.view) == (NAME, 20, 12, 3, 2)
    assert clip.source == f"{NAME}.skeleton"
    assert clip.splits == ("xsub_test", "xview_train")
    np.testing.assert_allclose(dense(clip, 1)[:, 0], walker(), rtol=1e-6)
    assert source.header.title == "NTU RGB+D" and len(source.header.classes) == 60
    assert source.header.classes[12] == "tear up paper"
    assert source.header.usual_split == "xsub_train/xsub_test"
    assert source.header.skeleton == Skeleton.builtin("ntu25")


def test_recognise(tmp_path):
    assert ntu.recognise(tmp_path) is None
    folder_of(tmp_path, **{f"a/b/{NAME}": "0", "S001C001P001R001A002": "x", "S01C001P001R001A002": "", ".hidden/x": ""})
    (tmp_path / "notes.txt").touch()
    folder_of(tmp_path, **{f"1/2/3/4/5/{NAME}": "0"})
    assert ntu.recognise(tmp_path) == "2 NTU .skeleton files"
    assert ntu.recognise(str(tmp_path / "a")) == "1 NTU .skeleton file"
    assert ntu.recognise(tmp_path / f"a/b/{NAME}.skeleton") == "1 NTU .skeleton file"
    for other in (tmp_path / "notes.txt", tmp_path / "missing", "", "\0", "/dev/null"):
        assert ntu.recognise(other) is None


def test_120_classes_where_an_action_is_above_60(tmp_path):
    names = ("S017C001P008R001A060", "S018C001P045R001A061", "S019C003P044R002A120")
    source = ntu.open_source(folder_of(tmp_path, **dict.fromkeys(names, one_person())))
    assert source.header.title == "NTU RGB+D 120" and len(source.header.classes) == 120
    assert [clip.splits for clip in clips_of(source)] == [
        ("xsub_train", "xset_test"), ("xsub_train", "xset_train"), ("xsub_test", "xset_test"),
    ]  # fmt: skip
    assert [clip.label for clip in clips_of(source)] == [59, 60, 119]


def test_sizes_of_the_published_splits():
    """NTU RGB+D: 40 subjects, 20 of them train; 120: 106 and 53 (Liu et al., TPAMI 2019, section 4)."""

    def train(split, names, classes):
        return sum(split in ntu.splits_of(ntu.parse_name(name), classes) for name in names)

    assert train("xsub_train", [f"S001C001P{p:03}R001A001" for p in range(1, 41)], 60) == 20
    assert train("xsub_train", [f"S001C001P{p:03}R001A001" for p in range(1, 107)], 120) == 53
    assert train("xview_train", [f"S001C{c:03}P001R001A001" for c in (1, 2, 3)], 60) == 2
    assert train("xset_train", [f"S{s:03}C001P001R001A001" for s in range(1, 33)], 120) == 16


def test_classes_are_the_published_ones():
    assert len(ntu.CLASSES) == len(set(ntu.CLASSES)) == 120
    assert (ntu.CLASSES[0], ntu.CLASSES[59]) == ("drink water", "walking apart from each other")
    assert ntu.CLASSES[119] == "finger-guessing game (playing rock-paper-scissors)"


def test_bad_clips_are_left_out_and_counted(tmp_path):
    bad = ("S001C002P005R002A008", "S032C003P067R002A077")
    folder_of(tmp_path, **dict.fromkeys((*bad, NAME), one_person()))
    source = ntu.open_source(tmp_path)
    assert [clip.name for clip in clips_of(source)] == [NAME]
    assert left_out_of(source) == {
        f"{name}.skeleton": "it is known to be bad: NTU's authors list it as a missing or incomplete skeleton"
        for name in bad
    }
    assert len(clips_of(ntu.open_source(tmp_path, bad=True))) == 3


def test_the_list_of_bad_clips_has_its_published_length():
    assert len(_ntu_sets._bad_names()) == 535
    assert sum(ntu.parse_name(name).action <= 60 for name in _ntu_sets._bad_names()) == 302


def test_one_damaged_file_does_not_hurt_the_others(tmp_path):
    damaged = one_person().encode()[:3000]
    folder_of(tmp_path, **{f"S001C001P001R001A{a:03}": one_person() for a in range(1, 5)})
    folder_of(tmp_path, S001C001P001R001A002=damaged, S001C001P001R001A003="1\n-3\n", S001C001P001R001A000=one_person())
    (tmp_path / "S001C001P001R001A005.skeleton").symlink_to("missing")
    source = ntu.open_source(tmp_path)
    assert [clip.label for clip in clips_of(source)] == [UNKNOWN, 0, 3]
    told = left_out_of(source)
    assert (
        told["S001C001P001R001A003.skeleton"] == "line 2: the number of bodies must be an integer in [0, 64], got '-3'"
    )
    assert told["S001C001P001R001A002.skeleton"].startswith("line ")
    assert told["S001C001P001R001A005.skeleton"] == "it cannot be opened: No such file or directory"


def test_names_that_are_none_and_names_that_are_there_twice(tmp_path):
    folder_of(tmp_path, **{f"one/{NAME}": one_person(12), f"two/{NAME}": one_person(13), "clip": one_person()})
    source = ntu.open_source(tmp_path)
    assert [clip.frames for clip in clips_of(source)] == [12]
    assert left_out_of(source) == {
        "clip.skeleton": "its name must be SsssCcccPpppRrrrAaaa.skeleton",
        f"two/{NAME}.skeleton": f"clips must have different names, one/{NAME}.skeleton has the same",
    }


def test_links_to_folders_do_not_go_in_circles(tmp_path):
    folder_of(tmp_path, **{f"a/{NAME}": one_person()})
    (tmp_path / "a/b").symlink_to(tmp_path)
    assert len(clips_of(ntu.open_source(tmp_path))) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_cannot_be_read_is_said(tmp_path):
    folder_of(tmp_path, **{NAME: one_person(), f"locked/{NAME}": one_person()})
    (tmp_path / "locked").chmod(0)
    with pytest.raises(PermissionError, match="locked"):
        ntu.open_source(tmp_path)


def test_parts_are_small_and_can_be_read_by_any_process(tmp_path):
    folder_of(tmp_path, **{f"S001C001P001R{r:03}A{a:03}": one_person(12) for r in (1, 2) for a in range(1, 51)})
    source = pickle.loads(pickle.dumps(ntu.open_source(tmp_path, threads=2)))
    assert source.parts == (
        "S001C001P001R001A001.skeleton to S001C001P001R002A014.skeleton, 64 files",
        "S001C001P001R002A015.skeleton to S001C001P001R002A050.skeleton, 36 files",
    )
    names = [clip.name for part in reversed(source.parts) for clip in source.read(part)]
    assert names[:2] == ["S001C001P001R002A015", "S001C001P001R002A016"] and len(names) == 100


def test_a_recording_as_sensors_make_them(tmp_path):
    """Empty frames, a table, an id that changes, NaN, two persons of whom one comes late."""
    first, second, table = walker(40), walker(40, 1, (1.0, 0, 3)), pose(2) * [9, 0.1, 1]
    frames = [[] for _ in range(43)]
    for t in range(40):
        frames[t + 3].append((SENSOR_ID + (7 if t >= 25 else 0), first[t]))
        if t >= 10:
            frames[t + 3].append((SENSOR_ID + 1, second[t] + np.float32(0.5 * np.sin(t))))
        if t < 30:
            frames[t + 3].append((SENSOR_ID + 2, table))
    frames[20][0][1][4, 1] = np.nan
    source = ntu.open_source(folder_of(tmp_path, **{NAME: text(frames)}))
    (clip,) = clips_of(source)
    steps = [entry for entry in entries(source) if isinstance(entry, LeftOut)]
    assert count_steps(steps) == {"frames with NaN": 1, "joined bodies": 1, "wide bodies": 1, "empty frames": 1}
    assert clip.frames == 39 and {track.person for track in clip.tracks} == {0, 1}
    kept = [t for t in range(40) if t != 17]
    expected = np.zeros((39, 2, 25, 3))
    expected[:, 1] = np.array(first)[kept]
    for place, t in enumerate(kept):
        if t >= 10:
            expected[place, 0] = second[t] + 0.5 * np.sin(t)
    np.testing.assert_allclose(dense(clip), expected, rtol=1e-5, atol=1e-6)


def test_without_clean_up_every_body_is_a_person(tmp_path):
    table = pose(2) * [9, 0.1, 1]
    frames = [[], [(SENSOR_ID + 5, table), (SENSOR_ID, pose(0))], [(SENSOR_ID, pose(1))]]
    (clip,) = entries(ntu.open_source(folder_of(tmp_path, **{NAME: text(frames)}), clean=CleanUp.off()))
    assert clip.frames == 3
    assert [(track.person, track.start, len(track.data)) for track in clip.tracks] == [(0, 1, 1), (1, 1, 2)]


def test_nan_without_clean_up_leaves_the_clip_out(tmp_path):
    broken = pose(0)
    broken[3, 2] = np.nan
    folder_of(tmp_path, **{NAME: text([[(SENSOR_ID, pose())], [(SENSOR_ID, broken)]])})
    (entry,) = entries(ntu.open_source(tmp_path, clean=CleanUp.off()))
    assert entry == LeftOut(f"{NAME}.skeleton", "coordinates must be finite, got NaN in frame 1 of body 0")


def test_clips_of_which_nothing_is_left(tmp_path):
    nothing = pose() * np.float32("nan")
    folder_of(tmp_path, S001C001P001R001A001="0", S001C001P001R001A002="2\n0\n0\n")
    folder_of(tmp_path, S001C001P001R001A003=text([[(SENSOR_ID, nothing)]] * 3))
    assert [entry.reason for entry in entries(ntu.open_source(tmp_path))] == [
        "a clip must have at least one frame, got none",
        "no body: none of 2 frames holds one",
        "frames with NaN: 3 of 3 frames, the first is 0",
        "no body: none of 3 frames holds one",
    ]


def test_a_body_that_is_twice_in_a_frame(tmp_path):
    folder_of(tmp_path, **{NAME: text([[(SENSOR_ID, pose(0)), (SENSOR_ID, pose(1))]] * 2)})
    said, clip = entries(ntu.open_source(tmp_path))
    assert said.reason == "a body must be once in a frame, got 2 again: the first of each is taken"
    np.testing.assert_allclose(dense(clip, 1)[:, 0], [pose(0)] * 2, rtol=1e-6)


@pytest.mark.parametrize("path", ["missing", "empty"])
def test_what_cannot_be_opened(tmp_path, path):
    (tmp_path / "empty").mkdir()
    with pytest.raises((FileNotFoundError, ValueError), match=r"ntu: .*(must exist|must hold SsssCcccPpppRrrrAaaa)"):
        ntu.open_source(tmp_path / path)


def test_without_the_compiled_parser(tmp_path, monkeypatch):
    source = ntu.open_source(folder_of(tmp_path, **{NAME: one_person()}))
    monkeypatch.setitem(sys.modules, "asma._host", None)
    monkeypatch.delattr("asma._host", raising=False)
    with pytest.raises(OSError, match=r"ntu: the parser asma._host is not there \(.+\): build asma-kernels again"):
        entries(source)


coordinates = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def any_clips(draw):
    """Clips with gaps, empty frames and several persons, under any names."""
    names = draw(st.lists(st.text(min_size=1, max_size=8) | st.just(NAME), min_size=1, max_size=4, unique=True))
    made = []
    for name in names:
        frames, tracks = draw(st.integers(1, 6)), []
        for person in range(draw(st.integers(0, 3))):
            there = draw(st.lists(st.booleans(), min_size=frames, max_size=frames))
            edges = np.flatnonzero(np.diff(np.array([0, *there, 0])))
            for begin, end in zip(edges[::2], edges[1::2], strict=True):
                rng = np.random.default_rng(draw(st.integers(0, 99)))
                data = (rng.normal(size=(end - begin, 25, 3)) * 10.0 ** rng.integers(-40, 30)).astype(np.float32)
                data[0, 0] = draw(st.tuples(coordinates, coordinates, coordinates))
                tracks.append(Track(person, int(begin), data))
        numbers = [draw(st.integers(-1, most)) for most in (6, 2000, 2000)]
        splits = tuple(draw(st.sets(st.sampled_from(["train", "test", "xsub_train"]))))
        made.append(Clip(name, frames, tuple(tracks), *numbers, splits))
    return made


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(clips=any_clips(), data=st.data())
def test_what_is_written_reads_back_equal(tmp_path_factory, clips, data):
    folder = tmp_path_factory.mktemp("ntu") / "written"
    ntu.write(iter(clips), HEADER, folder)
    source = ntu.open_source(folder)
    assert source.header == HEADER
    back = {entry.name: entry for entry in entries(source)}
    assert len(back) == len(clips)
    for clip in clips:
        read = back[clip.name]
        assert (read.frames, read.label, read.subject, read.view) == (clip.frames, clip.label, clip.subject, clip.view)
        assert set(read.splits) == set(clip.splits)
        assert [(track.person, track.start) for track in read.tracks] == [(t.person, t.start) for t in clip.tracks]
        for one, other in zip(read.tracks, clip.tracks, strict=True):
            assert one.data.tobytes() == other.data.tobytes()


def test_the_builtin_set_goes_there_and_back(tmp_path):
    made = builtin_clips(classes=3, subjects=2, views=1, repeats=1)
    header = Header(made.title, made.skeleton, "xyz", made.classes, made.usual_split)
    clips = [
        Clip(str(made.name[i]), int(made.lengths[i]), (Track(0, 0, made.clip(i)),), *(int(field[i]) for field in
             (made.label, made.subject, made.view)))
        for i in range(len(made))
    ]  # fmt: skip
    ntu.write(clips, header, tmp_path / "written")
    source = ntu.open_source(tmp_path / "written")
    assert source.header == header
    for clip, read in zip(
        sorted(clips, key=lambda clip: clip.name), sorted(clips_of(source), key=lambda c: c.name), strict=True
    ):
        assert np.array_equal(clip.tracks[0].data, read.tracks[0].data)


def test_names_of_ntu_are_kept_and_read_by_anybody(tmp_path):
    """Without asma.json beside them too."""
    frames = np.array(walker(), np.float32)
    clip = Clip(NAME, 20, (Track(0, 0, frames),), 12, 3, 2, ("xsub_test", "xview_train"))
    ntu.write([clip], Header("NTU", Skeleton.builtin("ntu25"), "xyz", ntu.CLASSES[:60]), tmp_path / "written")
    assert sorted(os.listdir(tmp_path / "written")) == [f"{NAME}.skeleton", "asma.json"]
    (tmp_path / "written/asma.json").unlink()
    (read,) = entries(ntu.open_source(tmp_path / "written"))
    assert (read.name, read.label, read.subject, read.view, read.splits) == (NAME, 12, 3, 2, clip.splits)
    assert np.array_equal(read.tracks[0].data, frames)


GOOD = Clip("good", 2, (Track(0, 0, np.ones((2, 25, 3), np.float32)),), 0)
UTD = Header("utd", Skeleton.builtin("utd20"), "xyz", ("a",))


@pytest.mark.parametrize(
    ("clips", "header", "sentence"),
    [
        ([], HEADER, "ntu: there must be a clip to write, got none"),
        ([GOOD], UTD, "ntu: the format holds 25 joints of xyz, got 20 of xyz"),
        ([GOOD, GOOD], HEADER, "ntu: clips must have different names, got 'good' twice"),
        ([GOOD, Clip("x", 1, (Track(0, 0, np.full((1, 25, 3), np.nan, np.float32)),))], HEADER, "must be finite"),
        ([Clip("x", 1, (Track(64, 0, np.ones((1, 25, 3), np.float32)),))], HEADER, "64 persons.*got 65"),
        ([Clip("x", 1, (Track(0, 1, np.ones((1, 25, 3), np.float32)),))], HEADER, "must lie in"),
    ],
)
def test_refused_clips_leave_nothing_behind(tmp_path, clips, header, sentence):
    with pytest.raises(ValueError, match=sentence):
        ntu.write(clips, header, tmp_path / "written")
    assert os.listdir(tmp_path) == []


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "written").mkdir()
    (tmp_path / "written/mine").write_text("mine")
    with pytest.raises(OSError, match="there must be nothing at"):
        ntu.write([GOOD], HEADER, tmp_path / "written")
    assert os.listdir(tmp_path) == ["written"] and os.listdir(tmp_path / "written") == ["mine"]
