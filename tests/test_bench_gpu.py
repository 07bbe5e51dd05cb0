"""The GPU benchmark as far as a machine without a GPU goes: its gates, its table, its words where there is none."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from asma.config import PRESETS, EncoderConfig, OptimiserConfig, ProjectorConfig
from asma.models import Encoder

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from asma_kernels import _dispatch  # noqa: E402
from bench import fastest, gpu, gpu_ops, gpu_step, pstl  # noqa: E402


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
    row = {
        "work": "motion_energy",
        "N": 128,
        "backend": "cuda",
        "ours": 1e-5,
        "eager": 4e-5,
        "compiled": 2e-5,
        "share_of_copy": 0.8,
    }
    results = {
        "facts": {"device": "d", "torch": "t", "cuda": "c", "asma_kernels": "a"}, "command": "x", "date": "y",
        "parts": {"build": {"passed": True, "seconds": 3.0, "said": ""}},
    }  # fmt: skip
    gpu.write(results, tmp_path / "made.json")
    assert "| build | yes | 3.0 |" in (tmp_path / "made.md").read_text()
    results["ops"] = {"copy_bytes": 3e12, "empty_launch": 2e-6, "rows": [row]}
    assert "| motion_energy | 128 | cuda | 10.0 | 80% | 40.0 | 20.0 | 4.0x | 2.0x |" in gpu.table(results)
    step = {"work": "ASMa step", "ours": 5e-3, "eager": 5e-2, "compiled": None, "flops": 1e12, "target": "8x"}
    results["step"] = {"matrix_flops": 5e14, "rows": [step]}
    assert "| ASMa step | 5.00 ms | 40% | 10.0x |  | 8x |" in gpu.table(results)


SMALL = replace(
    PRESETS["demo"],
    encoder=EncoderConfig(channels=(4, 4, 8), strides=(1, 2, 1), kernel=3, dropout=0.0),
    projector=ProjectorConfig(width=16, layers=2),
    data=replace(PRESETS["demo"].data, frames=50),
    optimiser=OptimiserConfig(batch=4, epochs=1),
)


def test_the_peers_encoder_is_ours():
    encoder, x = Encoder(SMALL.encoder, gpu_step.SKELETON), torch.randn(2, 3, 50, 25, 2)
    gpu_step.check(encoder, x)
    kept = [0, 3, 4, 20]
    torch.testing.assert_close(pstl.feature(encoder, x, kept), encoder.mean_feature(x, torch.tensor(kept)))


@pytest.mark.slow
def test_the_step_and_the_epoch_are_timed():
    step = gpu_step.step_row(SMALL, 1)
    assert step["ours"] > 0 and step["eager"] > 0
    assert gpu_step.epoch_row(SMALL, 8)["ours"] > 0


@pytest.mark.slow
def test_the_encoder_is_timed():
    row = gpu_step.encoder_row(SMALL, 1, 1)
    assert min(row["ours"], row["eager"], row["compiled"]) > 0


def test_what_auto_takes_on_a_gpu_is_what_was_fastest_there(monkeypatch):
    assert fastest.FILE.read_text() == fastest.module(fastest.fastest(fastest.results()))
    times = {"cuda": (1.0, 9.0), "triton": (2.0, 2.0), "reference": (1.0,)}  # the reference failed at one size
    rows = [{"op": "motion_energy", "backend": name, "ours": s} for name, found in times.items() for s in found]
    table = fastest.fastest([{"facts": {"capability": 90}, "ops": {"rows": rows}}])
    assert table == {90: {"motion_energy": "triton"}}
    scope: dict = {}
    exec(fastest.module(table), scope)
    assert scope["FASTEST"] == table
    monkeypatch.setattr(_dispatch, "FASTEST", table)
    monkeypatch.setattr(_dispatch, "_capability", lambda index: 90)
    monkeypatch.setattr(_dispatch._triton, "INSTALLED", True)
    gpu_0 = torch.device("cuda:0")
    assert _dispatch.choose("motion_energy", "auto", gpu_0) == "triton"
    assert _dispatch.choose("philox", "auto", gpu_0) == "reference"
    assert _dispatch.choose("motion_energy", "auto", torch.device("cpu")) == "cpu"
    monkeypatch.setattr(_dispatch._triton, "INSTALLED", False)
    assert _dispatch.choose("motion_energy", "auto", gpu_0) == "reference"
