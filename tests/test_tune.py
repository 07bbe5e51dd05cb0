"""Tuning as far as a machine without a GPU goes: what it tries, keeps and writes, and that the kernels then take it."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
tune = pytest.importorskip("bench.tune", reason="triton is not installed", exc_type=ImportError)
from asma_kernels.triton import _config  # noqa: E402


def test_what_is_faster_by_more_than_noise_is_kept():
    common = {"BLOCK": 64, "num_warps": 4, "num_stages": 3}
    table = tune.Recorder({"fast": dict(common), "slow": dict(common), "flat": dict(common), "bare": {"BLOCK": 1}})
    taken = {}

    def work(name):
        def call():
            taken.update(table[name], name=name)

        return call

    def seconds(call):
        call()
        warps = taken["num_warps"]
        if taken["name"] == "slow" and warps == 8:
            raise RuntimeError("out of resources")
        times = {"fast": {8: 1.0}, "slow": {1: 9.0}, "flat": {2: 1.99}}
        return times.get(taken["name"], {}).get(warps, 2.0) + taken["num_stages"] * 1e-6

    found = tune.tune(table, [work(name) for name in table], seconds)
    assert found == {"fast": {"num_warps": 8, "num_stages": 1}}
    assert dict.__getitem__(table, "fast") == common
    scope = {}
    exec(tune.module({90: found}), scope)
    assert scope["TUNED"] == {90: found}


def test_an_architecture_takes_its_own(monkeypatch):
    monkeypatch.setattr(_config, "TUNED", {90: {"philox": {"num_warps": 8}}})
    for arch, warps in ((90, 8), (80, 4)):
        target = SimpleNamespace(get_current_target=lambda arch=arch: SimpleNamespace(arch=arch))
        monkeypatch.setattr(_config, "driver", SimpleNamespace(active=target))
        assert _config.LAUNCH["philox"] == {"BLOCK": 1024, "num_warps": warps}
        assert _config.LAUNCH["frame_mask"] == {"num_warps": 4}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so():
    found = subprocess.run([sys.executable, "-m", "bench.tune"], cwd=ROOT, capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (
        1,
        "bench.tune: this machine has no GPU; nothing was tuned or written\n",
    )
