"""The GPU benchmark as far as a machine without a GPU goes: its gates, its table, its words where there is none."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from bench import gpu, gpu_ops  # noqa: E402


@pytest.mark.parametrize("name", gpu_ops.works(2, "cpu"))
def test_ours_and_the_peers_agree(name):
    work = gpu_ops.works(3, "cpu")[name]
    gpu_ops.check(work, work.inputs(0))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path):
    command = [sys.executable, "-m", "bench.gpu", "--out", tmp_path / "made.json"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 2
    assert found.stderr.startswith("bench.gpu: this machine has no GPU (")
    assert not list(tmp_path.iterdir())


def test_a_part_that_crashes_or_takes_too_long_is_a_result_too(tmp_path):
    crashed = gpu.run_part([sys.executable, "-c", "print('begun', flush=True); import os; os.abort()"], 60)
    assert not crashed["passed"] and "begun" in crashed["said"]
    late = gpu.run_part([sys.executable, "-c", "print('begun', flush=True); import time; time.sleep(60)"], 1)
    assert not late["passed"] and "begun" in late["said"] and "stopped after 1 s" in late["said"]
    missing = gpu.run_part(["no-such-program"], 1)
    assert not missing["passed"] and "no-such-program" in missing["said"]


def test_the_table_holds_what_is_there(tmp_path):
    row = {"work": "motion_energy", "N": 128, "ours": 1e-5, "eager": 4e-5, "compiled": 2e-5, "share_of_copy": 0.8}
    results = {
        "facts": {"device": "d", "torch": "t", "cuda": "c", "asma_kernels": "a"}, "command": "x", "date": "y",
        "parts": {"build": {"passed": True, "seconds": 3.0, "said": ""}},
    }  # fmt: skip
    gpu.write(results, tmp_path / "made.json")
    assert "| build | yes | 3.0 |" in (tmp_path / "made.md").read_text()
    results["ops"] = {"copy_bytes": 3e12, "empty_launch": 2e-6, "rows": [row]}
    assert "| motion_energy | 128 | 10.0 | 80% | 40.0 | 20.0 | 4.0x | 2.0x |" in gpu.table(results)
