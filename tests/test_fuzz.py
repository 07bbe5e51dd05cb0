"""A few seconds of fuzzing; tests/fuzz/run.py is the long run, whose figures stand in docs/data.md and docs/edge.md."""

import shutil
import subprocess

import pytest
from fuzz import ntu_skeleton, run

CLANG = shutil.which("clang++")
EMPTY = 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }'


@pytest.mark.slow
@pytest.mark.skipif(CLANG is None, reason="clang++ was not found: libFuzzer is a part of it")
@pytest.mark.parametrize("name", run.TARGETS)
def test_mutations_of_the_seeds_find_nothing(tmp_path, name):
    """The parser agrees with a plain reader; the engine touches no byte that is not its own."""
    trial = [CLANG, *run.FLAGS, "-x", "c++", "-", "-o", tmp_path / "trial"]
    if subprocess.run(trial, input=EMPTY.encode(), capture_output=True).returncode:
        pytest.skip("this clang++ has no libFuzzer or sanitizers: Debian has them in libclang-rt-dev")
    of = run.load(name)
    target = of.build(tmp_path, CLANG)
    executions, printed = run.fuzz(of, target, tmp_path, "-max_total_time=5", "-print_final_stats=1", "-seed=1")
    assert executions > 1000, printed


def test_seeds_are_what_they_are_called(tmp_path):
    host = pytest.importorskip("asma._host", reason="asma._host was not built: Python.h is needed for it")
    bodies = {}
    for name, text in ntu_skeleton.seeds().items():
        (tmp_path / name).write_bytes(text)
        (result,) = host.read_ntu_skeletons([bytes(tmp_path / name)])
        assert not isinstance(result, str), result
        bodies[name] = len(result[2])
    assert bodies == {
        "no_frame": 0, "empty_frames": 0, "one_body": 1, "two_bodies": 3, "long_lines": 1, "shortest_bodies": 6,
        "windows": 1,
    }  # fmt: skip
