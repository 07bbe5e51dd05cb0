"""One clip in many formats has the same numbers, and so have the real sets in every format that can hold them."""

from pathlib import Path

import numpy as np
import pytest
from format_cases import assert_round_trip, assert_same, clip_sets, header, read_all
from hypothesis import HealthCheck, given, settings

from asma.data import load_clips
from asma.data.formats import ctrgcn, mediapipe, ntu, openpose, pku, pstl, pyskl, ucla, utd
from asma.data.source import Clip, Header, Track
from asma_kernels import Skeleton

pytest.importorskip("asma._host", reason="asma._host was not built: Python.h is needed for it")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SUFFIX = {ctrgcn: ".npz", pyskl: ".pkl"}
OF_LAYOUT = {
    "ntu25": (pstl, ctrgcn, pyskl, pku, ntu),
    "ucla20": (pstl, pyskl, ucla),
    "coco17": (pstl, pyskl, openpose),
    "mediapipe33": (pstl, pyskl, mediapipe),
}


@pytest.mark.parametrize("layout", OF_LAYOUT)
def test_the_same_clip_from_every_format(layout, tmp_path_factory):
    head = header(layout, "xys" if layout == "coco17" else "xyz", usual_split="xsub_train/xsub_val")
    one_person = {"most_persons": 1, "whole": True} if layout == "ucla20" else {}

    @settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
    @given(clip_sets(layout, sides=("xsub_train", "xsub_val"), **one_person))
    def check(clips):
        folder = tmp_path_factory.mktemp("across")
        found = []
        for module in OF_LAYOUT[layout]:
            path = folder / f"{module.FORMAT}{SUFFIX.get(module, '')}"
            module.write(clips, head, path)
            found.append(read_all(module.open_source(path))[0])
        for others in found[1:]:
            assert set(others) == set(found[0])
            for name, clip in found[0].items():
                assert_same(clip, others[name])

    check()


def real(name):
    """A set of the project's data folder as clips."""
    if not (SHARED / f"{name}.npz").is_file():
        pytest.skip(f"{name}.npz is not in ../shared/data; its owners do not allow it in the project")
    found = load_clips(SHARED / f"{name}.npz")
    head = Header(found.title, found.skeleton, "xyz", found.classes, found.usual_split)
    clips = [
        Clip(
            str(found.name[at]), len(found.clip(at)), (Track(0, 0, found.clip(at)),), int(found.label[at]),
            int(found.subject[at]), int(found.view[at]),
        )
        for at in range(len(found))
    ]  # fmt: skip
    return clips, head


@pytest.mark.parametrize(
    ("name", "module"),
    [(name, module) for name, own in (("utd_mhad", utd), ("nw_ucla", ucla)) for module in (pstl, pyskl, own)],
)
def test_real_sets_come_back_from_every_format_that_can_hold_them(name, module, tmp_path):
    clips, head = real(name)
    assert_round_trip(module, clips, head, tmp_path / f"set{SUFFIX.get(module, '')}")


@pytest.mark.parametrize("module", [ctrgcn, pku, ntu])
def test_real_movement_on_the_joints_of_ntu(module, tmp_path):
    """Formats of 25 joints: UTD-MHAD by `Skeleton.map_to`, every third clip of it."""
    clips, head = real("utd_mhad")
    ntu = Skeleton.builtin("ntu25")
    matrix = head.skeleton.map_to(ntu, "nearest").numpy()
    head = Header(head.title, ntu, head.channels, head.classes, head.usual_split)
    mapped = [
        Clip(
            clip.name, clip.frames, (Track(0, 0, np.ascontiguousarray(matrix @ clip.tracks[0].data)),), clip.label,
            clip.subject, clip.view,
        )
        for clip in clips[::3]
    ]  # fmt: skip
    assert_round_trip(module, mapped, head, tmp_path / f"set{SUFFIX.get(module, '')}")
