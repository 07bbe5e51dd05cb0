"""Every file format under hostile and damaged files: one sentence with the file and the rule, or clips left out."""

import dataclasses
import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from format_cases import NTU, header, random_clip, read_all

from asma.data.formats import bvh, c3d, ctrgcn, mediapipe, openpose, pku, pstl, pyskl, ucla, utd
from asma.data.source import Clip, LeftOut

FORMATS = {module.FORMAT: module for module in (bvh, c3d, ctrgcn, mediapipe, openpose, pku, pstl, pyskl, ucla, utd)}
WRITTEN = {name: module for name, module in FORMATS.items() if name not in ("bvh", "c3d")}
pytestmark = pytest.mark.filterwarnings("ignore:No analog data found")
LAYOUT = {"mediapipe": "mediapipe33", "openpose": "openpose18", "ucla": "ucla20", "utd": "utd20"}
SUFFIX = {"ctrgcn": ".npz", "pyskl": ".pkl"}
BVH = """HIERARCHY
ROOT hip
{
  OFFSET 0 0 0
  CHANNELS 4 Xposition Zrotation Xrotation Yrotation
  End Site
  {
    OFFSET 0 1 0
  }
}
MOTION
Frames: 2
Frame Time: 0.1
1 2 3 4
5 6 7 8
"""


def small_set(name, folder):
    """A small valid set of a format at `folder`; the path that is opened."""
    rng = np.random.default_rng(0)
    if name == "bvh":
        folder.mkdir()
        (folder / "a.bvh").write_text(BVH)
        return folder
    if name == "c3d":
        return c3d_set(folder)
    if name == "pstl":
        # As other people's files are: two frames, not the 300 that ours have.
        folder.mkdir()
        np.save(folder / "train_position.npy", rng.normal(size=(2, 3, 2, 25, 2)).astype(np.float32))
        (folder / "train_label.pkl").write_bytes(pickle.dumps((["a", "b"], [0, 1])))
        return folder
    if name == "ctrgcn":
        rows, classes = rng.normal(size=(2, 2, 150)).astype(np.float32), np.eye(3)[:2]
        np.savez(folder.with_suffix(".npz"), x_train=rows, y_train=classes, x_test=rows[:0], y_test=classes[:0])
        return folder.with_suffix(".npz")
    if name == "pyskl":
        module, head, suffix = pyskl, header(), ".pkl"
        clips = [random_clip(frames=1, splits=("a_train",))]
    else:
        module, suffix, layout = FORMATS[name], "", LAYOUT.get(name, "ntu25")
        head = header(layout, "xys" if name == "openpose" else "xyz")
        clips = [rounded(random_clip("a1_s1_t1", frames=1, layout=layout))]
    path = folder.with_suffix(suffix)
    module.write(clips, head, path)
    return path


def rounded(clip):
    """With short numbers, so that a file of text is small."""
    return dataclasses.replace(clip, tracks=tuple(track._replace(data=track.data.round(1)) for track in clip.tracks))


def c3d_set(folder):
    package = pytest.importorskip("c3d", reason="c3d is not installed")
    folder.mkdir()
    writer = package.Writer(point_rate=100)
    writer.set_point_labels(["HEAD", "HIP"])
    points = np.ones((2, 2, 5), np.float32)
    points[..., 3:] = 0
    writer.add_frames([(frame, np.zeros((0, 0))) for frame in points])
    with open(folder / "a.c3d", "wb") as file:
        writer.write(file)
    (folder / "asma.json").write_text(json.dumps({"joints": ["HIP", "HEAD"], "edges": [[0, 1]]}))
    return folder


def files_of(path):
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def cuts(data):
    """Every length below that of the file, but for the middles of long runs of zeros, where nothing changes."""
    return [length for length in range(len(data)) if any(data[max(length - 8, 0) : length + 8]) or length == 0]


def attempt(module, path):
    """What becomes of a path: clips and what was left out, or a sentence."""
    module.recognise(path)
    try:
        return read_all(module.open_source(path))
    except (ValueError, OSError) as error:
        text = str(error)
        assert type(error) in (ValueError, FileNotFoundError, OSError) or isinstance(error, OSError)
        assert text and "\n" not in text and len(text) < 700, text
        return text


def check(outcome):
    """Finite clips, and reasons that are sentences."""
    if isinstance(outcome, str):
        return
    clips, left = outcome
    assert all(np.isfinite(track.data).all() for clip in clips.values() for track in clip.tracks)
    assert all(item.reason and "\n" not in item.reason and len(item.reason) < 700 for item in left)


@pytest.mark.parametrize("name", FORMATS)
def test_valid_sets_are_recognised_by_their_own_format_only(name, tmp_path):
    path = small_set(name, tmp_path / "set")
    clips, left = attempt(FORMATS[name], path)
    assert clips and not left
    elsewhere = pickle.loads(pickle.dumps(FORMATS[name].open_source(path)))  # as another process gets it
    assert set(read_all(elsewhere)[0]) == set(clips)
    for other, module in FORMATS.items():
        assert (module.recognise(path) is not None) == (other == name), other
        assert (module.recognise(str(path)) is not None) == (other == name), other


@pytest.mark.parametrize("name", FORMATS)
def test_truncated_at_every_byte(name, tmp_path):
    path = small_set(name, tmp_path / "set")
    whole, _ = attempt(FORMATS[name], path)
    for file in files_of(path):
        if file.name.endswith("asma.json") and name != "pstl":
            continue  # the same for all
        data = file.read_bytes()
        # The last byte of a text file is a newline, and C3D is filled up to a block: what is lost there is nothing.
        for length in cuts(data):
            file.write_bytes(data[:length])
            outcome = attempt(FORMATS[name], path)
            check(outcome)
            if not isinstance(outcome, str) and length < len(data) * 0.7 and file.suffix not in (".csv", ".txt"):
                assert len(outcome[0]) < len(whole) or outcome[1] or file.name == "asma.json"
        file.write_bytes(data)


@pytest.mark.parametrize("name", FORMATS)
def test_random_bytes_in_valid_files(name, tmp_path):
    path = small_set(name, tmp_path / "set")
    rng = np.random.default_rng(1)
    for file in files_of(path):
        data = file.read_bytes()
        for _ in range(150):
            damaged = bytearray(data)
            for at in rng.integers(0, len(data), rng.integers(1, 5)):
                damaged[at] = rng.integers(0, 256)
            file.write_bytes(damaged)
            check(attempt(FORMATS[name], path))
        file.write_bytes(data)


JUNK = {
    "empty": b"",
    "zeros": bytes(1000),
    "random": np.random.default_rng(2).bytes(3000),
    "utf16": "frames [1, 2]\n".encode("utf-16"),
    "gzip": bytes.fromhex("1f8b0800000000000003") + bytes(100),
    "deep": b"[" * 100_000,
    "long number": b"9" * 10_000,
    "pickle of code": b"cos\nsystem\n(S'echo'\ntR.",
    "zip": b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("name", FORMATS)
def test_junk_in_the_place_of_a_file(name, junk, tmp_path):
    path = small_set(name, tmp_path / "set")
    for file in files_of(path):
        data = file.read_bytes()
        file.write_bytes(JUNK[junk])
        outcome = attempt(FORMATS[name], path)
        check(outcome)
        # asma.json and labels are beside the clips; without the clips' own file there is no clip.
        if file.suffix in (".npy", ".npz", ".mat", ".bvh", ".c3d") or name in ("ucla", "openpose", "mediapipe"):
            assert isinstance(outcome, str) or not outcome[0]
        file.write_bytes(data)


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_there(name, tmp_path):
    module = FORMATS[name]
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.xyz").write_bytes(b"hello")
    for pipe in ("pipe.pkl", "pipe.npz", "pipe_data.npy", "pipe.bvh"):
        os.mkfifo(tmp_path / pipe)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    strange = [
        tmp_path / "nothing", tmp_path / "nothing.npz", tmp_path / "nothing.pkl", tmp_path / "empty",
        tmp_path / "file.xyz", tmp_path / "dangling", Path("/dev/null"), Path("a\0b"), Path(""),
        *tmp_path.glob("pipe*"),
    ]  # fmt: skip
    for path in strange:
        assert module.recognise(path) is None or path == Path("")
        if path != Path(""):
            assert isinstance(attempt(module, path), str)


@pytest.mark.parametrize("name", FORMATS)
def test_links_are_followed_and_loops_end(name, tmp_path):
    path = small_set(name, tmp_path / "set")
    whole, _ = attempt(FORMATS[name], path)
    if path.is_dir():
        (path / "loop").symlink_to(path)
    link = tmp_path / f"link{path.suffix}"
    link.symlink_to(path)
    if path.is_file() and path.with_suffix(".asma.json").exists():
        link.with_suffix(".asma.json").symlink_to(path.with_suffix(".asma.json"))
    outcome = attempt(FORMATS[name], link)
    assert isinstance(outcome, str) == (name == "pku")  # two folders called skeleton: it cannot know which
    if name != "pku":
        assert set(outcome[0]) == set(whole)


def test_a_member_outside_the_archive_is_not_touched(tmp_path):
    """Nothing is unpacked to the disk, so a path in an archive leads nowhere."""
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((1, 1, 150), np.float32))
    path = tmp_path / "inside" / "set.npz"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for member in ("../x_train.npy", "/x_train.npy", "../../etc/passwd"):
            archive.writestr(member, buffer.getvalue())
    assert "must hold x_train and y_train" in attempt(ctrgcn, path)
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["inside", "set.npz"]


def npy_header(shape, descr="<f4"):
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + text.ljust(117) + b"\n"


@pytest.mark.parametrize(
    "shape",
    [(10**12, 300, 150), (2**62, 300, 150), (10**400, 1, 150), (-1, 300, 150), (10**6, 10**6, 150), (1, 300), ()],
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_that_claim_more_than_they_have(shape, method, tmp_path):
    path = tmp_path / "set.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x_train.npy", npy_header(shape) + bytes(600))
        archive.writestr("y_train.npy", npy_header((shape[0] if shape else 1, 3)) + bytes(600))
    text = attempt(ctrgcn, path)
    assert isinstance(text, str) and "x_train.npy" in text


def test_a_zip_bomb_is_read_in_blocks(tmp_path):
    """40 MB of zeros in 40 kB: no clip has a body, and no more than a block was in memory."""
    path = tmp_path / "set.npz"
    count = 220
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_train.npy", npy_header((count, 300, 150)) + bytes(count * 300 * 150 * 4))
        archive.writestr("y_train.npy", npy_header((count, 3)) + bytes(count * 12))
    assert path.stat().st_size < 60_000
    clips, left = attempt(ctrgcn, path)
    assert not clips and len(left) == count


def test_a_zip_that_lies_about_its_size(tmp_path):
    path = tmp_path / "set.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_train.npy", npy_header((1, 1, 150)) + bytes(600))
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(data)
    assert "packed bytes cannot hold 4294967280" in attempt(ctrgcn, path)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_of_objects_are_refused(suffix, tmp_path):
    objects = np.empty((1, 3, 1, 25, 2), object)
    if suffix == ".npy":
        np.save(tmp_path / "train_data.npy", objects, allow_pickle=True)
        (tmp_path / "train_label.pkl").write_bytes(pickle.dumps((["a"], [0])))
        assert "must hold floating point numbers, got objects" in attempt(pstl, tmp_path)
    else:
        np.savez(tmp_path / "set.npz", x_train=objects.reshape(1, 1, 150), y_train=np.eye(1))
        assert "must hold floating point numbers, got objects" in attempt(ctrgcn, tmp_path / "set.npz")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
@pytest.mark.parametrize("name", ["pstl", "ctrgcn", "pyskl"])
def test_arrays_that_are_not_finite_leave_the_clip_out_and_keep_the_rest(name, value, tmp_path):
    data = np.ones((3, 3, 4, 25, 2))
    data[1, 2, 3, 7, 1] = value
    if name == "pstl":
        np.save(tmp_path / "train_data.npy", data)
        (tmp_path / "train_label.pkl").write_bytes(pickle.dumps((["a", "b", "c"], [0, 0, 0])))
        path = tmp_path
    elif name == "ctrgcn":
        path = tmp_path / "set.npz"
        np.savez(path, x_train=data.transpose(0, 2, 4, 3, 1).reshape(3, 4, 150), y_train=np.ones((3, 1)))
    else:
        path = tmp_path / "set.pkl"
        keypoints = data.transpose(0, 4, 2, 3, 1)
        path.write_bytes(
            pickle.dumps([{"frame_dir": name, "label": 0, "total_frames": 4, "keypoint": keypoints[at]}
                          for at, name in enumerate("abc")])
        )  # fmt: skip
    clips, (left,) = attempt(FORMATS[name], path)
    assert len(clips) == 2
    assert "at frame 3, person 1, joint 7" in left.reason
    assert ("must be finite" if value != 1e300 else "must fit float32") in left.reason


TEXT_NUMBERS = ["NaN", "Infinity", "1e309", "-1e309"]


@pytest.mark.parametrize("number", TEXT_NUMBERS)
@pytest.mark.parametrize("name", ["ucla", "openpose", "mediapipe", "pku", "bvh"])
def test_text_that_is_not_finite_leaves_the_clip_out(name, number, tmp_path):
    path = small_set(name, tmp_path / "set")
    (file,) = [file for file in files_of(path) if file.name != "asma.json" and "label" not in str(file.parent.name)]
    text = file.read_text()
    before, after = {
        "bvh": ("5 6 ", " "), "pku": ("", " "), "ucla": ("[[[", ","), "openpose": ('2d":[', ","),
        "mediapipe": ('"x":', ","),
    }[name]  # fmt: skip
    head, _, rest = text.partition(before) if before else ("", "", text)
    file.write_text(head + before + number + after + rest.partition(after)[2])
    clips, (left,) = attempt(FORMATS[name], path)
    assert not clips and "finite" in left.reason


@pytest.mark.parametrize("name", ["ucla", "openpose", "mediapipe", "pku", "bvh"])
@pytest.mark.parametrize("change", ["bom", "crlf", "no last newline"])
def test_text_of_other_systems_is_the_same(name, change, tmp_path):
    path = small_set(name, tmp_path / "set")
    whole, _ = attempt(FORMATS[name], path)
    for file in files_of(path):
        data = file.read_bytes()
        if change == "bom":
            data = b"\xef\xbb\xbf" + data
        file.write_bytes(
            data.replace(b"\n", b"\r\n") if change == "crlf" else data.rstrip(b"\n") if "no" in change else data
        )
    clips, left = attempt(FORMATS[name], path)
    assert set(clips) == set(whole) and not left
    for clip in clips:
        assert np.array_equal(clips[clip].tracks[0].data, whole[clip].tracks[0].data)


@pytest.mark.parametrize("name", ["ucla", "openpose", "mediapipe", "pku", "bvh"])
def test_utf16_is_named(name, tmp_path):
    path = small_set(name, tmp_path / "set")
    for file in files_of(path):
        if file.name != "asma.json":
            file.write_bytes(file.read_text().encode("utf-16"))
    outcome = attempt(FORMATS[name], path)
    assert "UTF-16" in (outcome if isinstance(outcome, str) else outcome[1][0].reason)


# asma.json


BESIDE = [
    ("[]", "must hold a JSON object"),
    ('{"classes": [1]}', "classes must be a list of strings"),
    ('{"name": 3}', "name must be str"),
    ('{"channels": "rgb"}', "channels must be xyz or xys"),
    ('{"layout": "body99"}', "layout must be one of"),
    ('{"joints": ["a"]}', "joints and edges must both be lists"),
    ('{"joints": ["a", "b"], "edges": [[0, 7]]}', "joints, edges and centre must make a skeleton"),
    (json.dumps({"joints": ["a"] * 2000, "edges": []}), "joints must be at most 1024 names"),
    ('{"clips": {"a": 3}}', "clip 'a': must be an object"),
    ('{"clips": {"a": {"labels": 3}}}', "clip 'a': must be an object of name, label, subject, view, splits"),
    ('{"clips": {"a": {"label": true}}}', "label must be an integer"),
    ('{"clips": {"a": {"label": 1e3}}}', "label must be an integer"),
    ('{"clips": {"a": {"label": "walk"}}}', "label must be the number or the name of a class"),
    ('{"clips": {"a": {"subject": -7}}}', "subject must be an integer"),
    ('{"clips": {"a": {"view": 1e309}}}', "view must be an integer"),
    ('{"clips": {"a": {"splits": "x"}}}', "splits must be a list of strings"),
    ('{"clips": {"a": {"name": "c"}, "b": {"name": "c"}}}', "clips must have different names"),
    ('{"layout": "ucla20"}', "layout 'ucla20' has 20 joints, got 25"),
]


@pytest.mark.parametrize(("text", "message"), BESIDE)
def test_asma_json_is_refused_in_a_sentence(text, message, tmp_path):
    path = small_set("pstl", tmp_path / "set")
    (path / "asma.json").write_text(text)
    found = attempt(pstl, path)
    assert isinstance(found, str) and message in found
    assert pstl.recognise(path)  # the data is what it is


def test_a_label_of_no_class_leaves_the_clip_out(tmp_path):
    path = small_set("pstl", tmp_path / "set")
    (path / "asma.json").write_text('{"classes": ["sit", "stand"], "clips": {"a": {"label": 2}}}')
    clips, (left,) = attempt(pstl, path)
    assert set(clips) == {"b"}
    assert left.reason == "label must be in [0, 2), one of the classes, got 2"


# Writers


def sets_that_do_not_fit():
    one = random_clip("a1_s1_t1")
    long = random_clip(frames=301)
    three = random_clip(persons=3)
    unlabelled = random_clip(label=-1)
    outside = random_clip(label=7)
    nan = Clip("n", 1, (one.tracks[0]._replace(data=np.full((1, 25, 3), np.nan, np.float32)),), 0)
    late = Clip("l", 3, one.tracks, 0)
    zeros = Clip("z", 1, (one.tracks[0]._replace(data=np.zeros((1, 25, 3), np.float32)),), 0)
    empty = Clip("e", 5, (one.tracks[0]._replace(data=one.tracks[0].data),), 0)
    return {
        "too long": (long, ("pstl", "ctrgcn"), "holds 300 frames, got 301"),
        "three persons": (three, ("pstl", "ctrgcn", "pku"), "holds 2 persons, got 3"),
        "no label": (unlabelled, ("pstl", "ctrgcn", "pku"), "needs a label, got none"),
        "label of no class": (outside, ("pstl", "ctrgcn", "pku", "pyskl"), r"label must be in \[0, 3\)"),
        "nan": (nan, ("pstl", "ctrgcn", "pku", "pyskl"), "coordinates must be finite"),
        "track beyond the clip": (late, ("pstl", "ctrgcn", "pku", "pyskl"), r"must lie in \[0, 3\)"),
        "zeros": (zeros, ("pstl", "ctrgcn", "pku", "pyskl"), "with all coordinates 0 in frame 0"),
        "nobody at the end": (empty, ("pstl", "ctrgcn"), "somebody must be in the last frame"),
    }


@pytest.mark.parametrize("case", sets_that_do_not_fit())
def test_what_does_not_fit_is_refused_and_nothing_is_written(case, tmp_path):
    clip, formats, message = sets_that_do_not_fit()[case]
    for name in formats:
        path = tmp_path / f"set{SUFFIX.get(name, '')}"
        with pytest.raises(ValueError, match=message) as caught:
            FORMATS[name].write([random_clip("good"), clip], header(), path)
        assert clip.name in str(caught.value) and "\n" not in str(caught.value)
        assert list(tmp_path.iterdir()) == []


def written(name, path, clips=None):
    layout = LAYOUT.get(name, "ntu25")
    head = header(layout, "xys" if name == "openpose" else "xyz")
    target = path.with_suffix(SUFFIX.get(name, ""))
    WRITTEN[name].write(clips or [random_clip("a1_s1_t1", layout=layout)], head, target)
    return target


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_there_is_not_overwritten(name, tmp_path):
    target = written(name, tmp_path / "set")
    before = {file: file.read_bytes() for file in files_of(tmp_path)}
    with pytest.raises(FileExistsError, match="there must be nothing at"):
        written(name, tmp_path / "set")
    assert {file: file.read_bytes() for file in files_of(tmp_path)} == before
    dangling = target.with_name(f"dangling{target.suffix}")
    dangling.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        written(name, tmp_path / "dangling")
    with pytest.raises(FileNotFoundError, match="the folder must exist"):
        written(name, tmp_path / "no" / "such")


@pytest.mark.parametrize("name", WRITTEN)
def test_an_interrupted_write_leaves_nothing(name, tmp_path):
    def interrupted():
        yield random_clip("a1_s1_t1", layout=LAYOUT.get(name, "ntu25"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        written(name, tmp_path / "set", interrupted())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", WRITTEN)
def test_a_full_disk_leaves_nothing(name, tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        written(name, tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", WRITTEN)
def test_names_that_would_leave_the_folder_stay_in_it(name, tmp_path):
    if name == "utd":
        pytest.skip("UTD-MHAD's names have one form, others are refused")
    layout = LAYOUT.get(name, "ntu25")
    evil = [
        "../evil",
        "/etc/evil",
        "..",
        ".",
        "a/../../b",
        ".hidden",
        "asma",
        "x.asma",
        "%2e%2e",
        "a,b c",
        "C:\\x",
        "ü☃",
    ]
    clips = [random_clip(one, layout=layout, seed=at) for at, one in enumerate(evil)]
    inside = tmp_path / "inside"
    inside.mkdir()
    path = written(name, inside / "set", clips)
    assert [file.name for file in tmp_path.iterdir()] == ["inside"]
    assert {file.name for file in inside.iterdir()} <= {path.name, f"{path.stem}.asma.json"}
    found, left = attempt(WRITTEN[name], path)
    assert set(found) == set(evil) and not left


@pytest.mark.parametrize("name", WRITTEN)
def test_two_clips_of_one_name_are_refused(name, tmp_path):
    layout = LAYOUT.get(name, "ntu25")
    with pytest.raises(ValueError, match="clips must have different names, got 'a1_s1_t1' twice"):
        written(name, tmp_path / "set", [random_clip("a1_s1_t1", layout=layout)] * 2)
    assert list(tmp_path.iterdir()) == []


def test_left_out_says_where(tmp_path):
    """The one thing that a report can show of a clip that was not read."""
    path = small_set("ucla", tmp_path / "set")
    (path / "b.json").write_text('{"skeletons": [[1, 2]], "label": 1}')
    clips, (left,) = attempt(ucla, path)
    assert isinstance(left, LeftOut) and left.source == "b.json"
    assert left.reason == "skeletons[0] must be a list of 20, got a list of 2"
    assert NTU.num_joints == 25 and len(clips) == 1
