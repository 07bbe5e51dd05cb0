"""UTD-MHAD's MAT-files: what is read of other people's files, and what ours hold."""

import dataclasses
import io
import re

import numpy as np
import pytest
from format_cases import assert_round_trip, clip_sets, header, random_clip, read_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asma.data.formats import utd

round_trip = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def mat(data, **others):
    scipy_io = pytest.importorskip("scipy.io", reason="scipy is not installed; it makes MAT-files as MATLAB does")
    file = io.BytesIO()
    compressed = others.pop("do_compression", False)
    scipy_io.savemat(file, others | {"d_skel": data}, do_compression=compressed)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("frames", [1, 2, 60])
def test_what_matlab_writes(frames, dtype, compressed, tmp_path):
    data = np.random.default_rng(0).normal(size=(20, 3, frames)).astype(dtype)
    if frames == 2:
        data = np.round(data * 9)  # MATLAB writes whole numbers as integers
    raw = mat(data, note="text", other=np.eye(2), do_compression=compressed)
    (tmp_path / "a27_s8_t2_skeleton.mat").write_bytes(raw)
    assert utd.recognise(tmp_path) == "UTD-MHAD .mat, 1 clips"
    source = utd.open_source(tmp_path)
    assert source.header.usual_split == "subject-odd-even" and len(source.header.classes) == 27
    clips, left = read_all(source)
    clip = clips["a27_s8_t2"]
    assert (clip.label, clip.subject, clip.view, clip.frames) == (26, 8, -1, frames) and not left
    np.testing.assert_array_equal(clip.tracks[0].data, data.transpose(2, 0, 1).astype(np.float32))


def test_mat_files_of_another_byte_order(tmp_path):
    """As old machines wrote them: the same file with every number turned around."""
    clip = random_clip("a1_s1_t1", layout="utd20")
    utd.write([clip], header("utd20"), tmp_path / "set")
    file = tmp_path / "set" / "a1_s1_t1_skeleton.mat"
    raw = file.read_bytes()
    at = raw.index(b"d_skel")
    words = np.frombuffer(raw[128:at], "<u4").byteswap().tobytes()
    tail = raw[at : at + 8] + np.frombuffer(raw[at + 8 : at + 16], "<u4").byteswap().tobytes()
    numbers = np.frombuffer(raw[at + 16 :], "<f8").byteswap().tobytes()
    file.write_bytes(raw[:124] + raw[124:126][::-1] + b"MI" + words + tail + numbers)
    clips, left = read_all(utd.open_source(tmp_path / "set"))
    assert not left
    np.testing.assert_array_equal(clips["a1_s1_t1"].tracks[0].data, clip.tracks[0].data)


MAT = {
    "shape": (lambda: mat(np.ones((25, 3, 4))), r"d_skel must be of shape \(20, 3, T\), got \(25, 3, 4\)"),
    "axes": (lambda: mat(np.ones((20, 3, 2, 2))), r"d_skel must be of shape"),
    "complex": (lambda: mat(np.ones((20, 3, 4)) * 1j), "d_skel must be real numbers"),
    "integers": (lambda: mat(np.ones((20, 3, 4), np.int32)), "d_skel must be real numbers, double or single"),
    "cells": (lambda: mat(np.array([[1, "a"]], object)), "d_skel must be real numbers"),
    "another name": (lambda: mat(np.ones(3)).replace(b"d_skel", b"d_iner"), "must hold d_skel, it does not"),
    "no frame": (lambda: mat(np.ones((20, 3, 0))), "a clip must have at least one frame, got none"),
    "nan": (lambda: mat(np.full((20, 3, 4), np.nan)), "coordinates must be finite, got nan"),
    "MATLAB 7.3": (lambda: b"MATLAB 7.3 MAT-file " + bytes(600), r"7.2, got one of 7.3 \(save it with -v7\)"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(600), "got one of 7.3"),
    "another file": (lambda: b"hello" * 100, "must be a MAT-file of MATLAB 5 to 7.2, got another file"),
}


@pytest.mark.parametrize("case", MAT)
def test_damaged_mat_files_are_left_out_and_the_rest_is_kept(case, tmp_path):
    make, reason = MAT[case]
    (tmp_path / "a1_s1_t1_skeleton.mat").write_bytes(mat(np.ones((20, 3, 4))))
    (tmp_path / "a1_s1_t2_skeleton.mat").write_bytes(make())
    clips, (left,) = read_all(utd.open_source(tmp_path))
    assert set(clips) == {"a1_s1_t1"}
    assert left.source.startswith("a1_s1_t2_skeleton.mat") and re.search(reason, left.reason), left


def test_a_mat_bomb_is_not_unpacked(tmp_path):
    """80 MB of zeros in 80 kB."""
    raw = mat(np.zeros((20, 3, 170_000)), do_compression=True)
    assert len(raw) < 100_000
    (tmp_path / "a1_s1_t1_skeleton.mat").write_bytes(raw)
    _, (left,) = read_all(utd.open_source(tmp_path))
    assert "must have at most 67108864 bytes when it is unpacked" in left.reason


utd_names = st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(1, 4)).map("a{0[0]}_s{0[1]}_t{0[2]}".format)


@round_trip
@given(clips=clip_sets("utd20", most_persons=1, whole=True, name=utd_names))
def test_round_trip_of_utd(clips, tmp_path_factory):
    clips = [dataclasses.replace(clip, label=int(clip.name[1]) - 1) for clip in clips]
    assert_round_trip(utd, clips, header("utd20"), tmp_path_factory.mktemp("utd") / "set")


def test_what_is_written_is_what_matlab_loads(tmp_path):
    scipy_io = pytest.importorskip("scipy.io", reason="scipy is not installed; it reads MAT-files as MATLAB does")
    clip = random_clip("a2_s1_t1", 5, layout="utd20", label=1)
    utd.write([clip], header("utd20"), tmp_path / "set")
    data = scipy_io.loadmat(tmp_path / "set" / "a2_s1_t1_skeleton.mat")["d_skel"]
    assert data.shape == (20, 3, 5) and data.dtype == np.float64
    np.testing.assert_array_equal(data.transpose(2, 0, 1), clip.tracks[0].data)


@pytest.mark.parametrize("name", ["walk", "a2_s1_t1", "a0_s1_t1"])
def test_names_that_do_not_tell_the_class_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match="a name must be as a1_s1_t1, class, subject and trial"):
        utd.write([random_clip(name, layout="utd20")], header("utd20"), tmp_path / "set")


@pytest.mark.parametrize("layout", ["ucla20", "ntu25"])
def test_joints_in_another_order_are_refused(layout, tmp_path):
    with pytest.raises(ValueError, match=f"the format holds the layout utd20 of xyz, got '{layout}'"):
        utd.write([random_clip("a1_s1_t1", layout=layout)], header(layout), tmp_path / "set")


def test_one_person_in_every_frame(tmp_path):
    clip = random_clip("a1_s1_t1", 4, layout="utd20")
    gap = dataclasses.replace(clip, tracks=(clip.tracks[0]._replace(start=1, data=clip.tracks[0].data[1:]),))
    with pytest.raises(ValueError, match="somebody must be there in every frame"):
        utd.write([gap], header("utd20"), tmp_path / "set")
    with pytest.raises(ValueError, match="the format holds 1 person, got 2"):
        utd.write([random_clip("a1_s1_t1", persons=2, layout="utd20")], header("utd20"), tmp_path / "set")
