"""PKU-MMD's text: videos cut by their labels, splits, damaged rows, and what ours hold."""

import numpy as np
import pytest
from format_cases import assert_round_trip, clip_sets, header, random_clip, read_all
from hypothesis import HealthCheck, given, settings

from asma.data.formats import pku

round_trip = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def video(frames, seed=0, persons=1):
    rows = np.random.default_rng(seed).normal(size=(frames, 150)).astype(np.float32)
    rows[:, 75 * persons :] = 0
    return rows


def put(folder, name, rows, labels):
    for kind in ("skeleton", "label"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    text = "\n".join(" ".join(f"{number:.9g}" for number in row) for row in rows)
    (folder / "skeleton" / f"{name}.txt").write_text(text + "\n")
    (folder / "label" / f"{name}.txt").write_text(labels)


@pytest.fixture
def part_one(tmp_path):
    put(tmp_path, "0002-L", video(20, persons=2), "26,3,9,2\n51,10,20,1\n")
    put(tmp_path, "0002-M", video(8, 1), "1,0,4,2\n")
    put(tmp_path, "0003-R", video(8, 2), "12,0,4,2\n8,4,8,2\n")
    (tmp_path / "cross-subject.txt").write_text("Training videos: \n0002-L, 0002-M, \nValidataion videos: \n0003-R")
    (tmp_path / "cross-view.txt").write_text("Training videos:\n0002-M, 0003-R\nValidation videos:\n0002-L\n")
    return tmp_path


def test_clips_are_the_label_rows(part_one):
    assert pku.recognise(part_one) == "PKU-MMD text, 3 videos"
    source = pku.open_source(part_one)
    assert source.header.title == "PKU-MMD I" and source.header.usual_split == "xsub_train/xsub_val"
    assert len(source.header.classes) == 51 and source.header.classes[25] == "punching/slapping other person"
    clips, left = read_all(source)
    assert not left and source.parts == ["0002-L", "0002-M", "0003-R"]
    first = clips["0002-L_000"]
    assert (first.frames, first.label, first.view, first.subject) == (6, 25, 1, -1)
    assert first.splits == ("xsub_train", "xview_val") and first.source == "label/0002-L.txt: line 1"
    np.testing.assert_array_equal(first.tracks[1].data, video(20, persons=2)[3:9, 75:].reshape(6, 25, 3))
    assert [(name, clip.frames, clip.label, clip.view) for name, clip in clips.items()] == [
        ("0002-L_000", 6, 25, 1), ("0002-L_001", 10, 50, 1), ("0002-M_000", 4, 0, 2),
        ("0003-R_000", 4, 11, 3), ("0003-R_001", 4, 7, 3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("interval", "begin", "end"), [("start:end", 3, 9), ("start-1:end", 2, 9), ("start:end+1", 3, 10)]
)
def test_which_frames_an_interval_means(interval, begin, end, part_one):
    clips, _ = read_all(pku.open_source(part_one, interval=interval))
    expected = video(20, persons=2)[begin:end, :75].reshape(-1, 25, 3)
    np.testing.assert_array_equal(clips["0002-L_000"].tracks[0].data, expected)


def test_part_two_names_its_subjects(tmp_path):
    put(tmp_path, "A01N07-M", video(6), "3,1,5,2\n")
    (tmp_path / "cross_subject_v2.txt").write_text("Training videos: \nA01N07-M, \nValidataion videos: \n")
    source = pku.open_source(tmp_path)
    (clip,) = read_all(source)[0].values()
    assert source.header.title == "PKU-MMD II"
    assert (clip.name, clip.subject, clip.view, clip.splits) == ("A01N07-M_000", 7, 2, ("xsub_train",))


def test_the_owners_arrangement(part_one, tmp_path_factory):
    """Data/PKU_Skeleton_Renew, Label/Train_Label_PKU_final and Split, as the archives unpack."""
    base = tmp_path_factory.mktemp("owners")
    for folder in ("Data", "Label", "Split"):
        (base / folder).mkdir()
    (part_one / "skeleton").rename(base / "Data" / "PKU_Skeleton_Renew")
    (part_one / "label").rename(base / "Label" / "Train_Label_PKU_final")
    (part_one / "cross-view.txt").rename(base / "Split" / "cross-view.txt")
    source = pku.open_source(base)
    clips, left = read_all(source)
    assert len(clips) == 5 and not left and source.header.usual_split == "xview_train/xview_val"


def test_two_parts_in_one_folder_are_not_mixed(part_one):
    (part_one / "v2").mkdir()
    put(part_one / "v2", "A01N01-L", video(3), "1,0,2,2\n")
    assert pku.recognise(part_one) is None
    with pytest.raises(ValueError, match="must have one folder of .txt with 'label' in its name, got label, v2/label"):
        pku.open_source(part_one)
    assert pku.recognise(part_one / "v2")


ROWS = {
    "class of text": ("walk,1,2,1", "must be class,start,end,confidence, got 'walk,1,2,1'"),
    "two fields": ("1,2", "must be class,start,end,confidence"),
    "negative": ("1,-3,5,1", "must be class,start,end,confidence"),
    "huge": ("1,3,99999999999999,1", "must be class,start,end,confidence"),
    "infinite": ("1,3,1e309,1", "must be class,start,end,confidence"),
    "class 0": ("0,1,5,1", "a class must be at least 1, got 0"),
    "class 52": ("52,1,5,1", "label must be in [0, 51), one of the classes, got 51"),
    "backwards": ("1,5,3,1", "frames must begin in [0, 10) and end later, got 5 to 3"),
    "empty": ("1,5,5,1", "frames must begin in [0, 10) and end later, got 5 to 5"),
    "beyond": ("1,10,12,1", "frames must begin in [0, 10) and end later, got 10 to 12"),
}


@pytest.mark.parametrize("case", ROWS)
def test_damaged_labels_are_left_out_and_the_rest_is_kept(case, tmp_path):
    row, reason = ROWS[case]
    put(tmp_path, "0002-L", video(10), f"1,0,4,2\n{row}\n2,4,8,2\n")
    clips, (left,) = read_all(pku.open_source(tmp_path))
    assert list(clips) == ["0002-L_000", "0002-L_002"]
    assert left.source == "label/0002-L.txt: line 2" and reason in left.reason


def test_what_is_beyond_the_last_row_is_said(tmp_path):
    put(tmp_path, "0002-L", video(10), "1,4,15,2\n")
    clips, (left,) = read_all(pku.open_source(tmp_path))
    assert clips["0002-L_000"].frames == 6
    assert left.reason == "frames must end at most at 10, got 15; the clip has those there are"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1 2 3", "a frame must be 150 numbers, got 3"),
        ("x " * 150, "could not convert"),
        ("1 " * 151, "got 151"),
        ("", "got 0"),
    ],
)
def test_a_damaged_frame_leaves_out_the_clips_that_have_it(row, reason, tmp_path):
    put(tmp_path, "0002-L", video(10), "1,0,4,2\n2,4,8,2\n3,7,10,2\n")
    file = tmp_path / "skeleton" / "0002-L.txt"
    lines = file.read_text().split("\n")
    lines[5] = row
    file.write_text("\n".join(lines))
    clips, (left,) = read_all(pku.open_source(tmp_path))
    assert list(clips) == ["0002-L_000", "0002-L_002"]
    assert left.source == "skeleton/0002-L.txt: line 6" and reason in left.reason
    np.testing.assert_array_equal(clips["0002-L_002"].tracks[0].data, video(10)[7:, :75].reshape(3, 25, 3))


def test_files_without_a_partner_are_said(part_one):
    (part_one / "skeleton" / "0002-M.txt").unlink()
    (part_one / "label" / "0003-R.txt").unlink()
    clips, left = read_all(pku.open_source(part_one))
    assert set(clips) == {"0002-L_000", "0002-L_001"}
    assert [item.source for item in left] == ["0002-M", "0003-R"]
    assert "must have a skeleton file of the same name" in left[0].reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0002-L, 0002-M\n", "cross-subject.txt: line 1: must be under 'Training videos:'"),
        ("Other videos:\n0002-L\n", "line 1: must be under"),
        ("Training videos:\n0002-L\nTest videos:\n0002-L", "line 4: a video must be on one list, '0002-L' is on both"),
    ],
)
def test_damaged_splits(text, message, part_one):
    (part_one / "cross-subject.txt").write_text(text)
    with pytest.raises(ValueError, match="cross-subject.txt: ") as caught:
        pku.open_source(part_one)
    assert message in str(caught.value)


def test_other_options_are_refused(part_one):
    with pytest.raises(ValueError, match="interval must be one of start:end, start-1:end, start:end.1, got 'all'"):
        pku.open_source(part_one, interval="all")


def test_a_clip_of_nobody_has_its_frames(tmp_path):
    put(tmp_path, "0002-L", video(5, persons=0), "1,1,4,2\n")
    clips, left = read_all(pku.open_source(tmp_path))
    assert (clips["0002-L_000"].frames, clips["0002-L_000"].tracks) == (3, ()) and not left


@round_trip
@given(clips=clip_sets(nobody=True))
def test_round_trip(clips, tmp_path_factory):
    assert_round_trip(pku, clips, header(), tmp_path_factory.mktemp("pku") / "set")


def test_what_is_written_is_what_others_load(tmp_path):
    clips = [random_clip("a", 3, 2, splits=("xsub_train",)), random_clip("b", 2, label=2, splits=("xsub_val", "mine"))]
    pku.write(clips, header(), tmp_path / "set")
    rows = np.loadtxt(tmp_path / "set" / "skeleton" / "a.txt").astype(np.float32).reshape(3, 2, 25, 3)
    np.testing.assert_array_equal(rows[:, 1], clips[0].tracks[1].data)
    assert np.loadtxt(tmp_path / "set" / "label" / "b.txt", delimiter=",").tolist() == [3, 0, 2, 2]
    # As MAMP reads it: the second and the fourth line.
    lines = (tmp_path / "set" / "cross-subject.txt").read_text().split("\n")
    assert (lines[1].split(", "), lines[3].split(", ")) == (["a"], ["b"])


def test_other_skeletons_are_refused(tmp_path):
    with pytest.raises(ValueError, match="the format holds 25 joints of xyz, got 20 of xyz"):
        pku.write([random_clip(layout="utd20")], header("utd20"), tmp_path / "set")
