"""`asma bench` and the benchmark of the step: that they measure what a step is, and what they say of it."""

import random
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from asma.bench import PARTS, Clock, Measured, Work, bench, staged_step, work_of_step
from asma.cli import main
from asma.config import PRESETS, EncoderConfig, OptimiserConfig, ProjectorConfig
from asma.machine import Limits
from asma.pretrain import Pretraining
from asma_kernels import Skeleton

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import step  # noqa: E402

NTU = Skeleton.builtin("ntu25")
SMALL = replace(
    PRESETS["pstl"],
    encoder=EncoderConfig(channels=(4, 4, 8), strides=(1, 2, 1), dropout=0.3),
    projector=ProjectorConfig(width=32, layers=2),
    optimiser=OptimiserConfig(batch=4, epochs=1),
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made(config):
    torch.manual_seed(3)
    run = Pretraining(config, torch.randn(8, 3, 50, 25, 2).cumsum(2), NTU)
    run.encoder.train()
    return run


@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_parts_together_are_the_step(bfloat16):
    """Same loss, same parameters, bit for bit."""
    config = replace(SMALL, bfloat16=bfloat16)
    whole, parts = made(config), made(config)
    clock = Clock(torch.device("cpu"))
    for _ in range(2):
        torch.manual_seed(4)
        loss = whole.train_step()["loss"]
        torch.manual_seed(4)
        parts.optimiser.param_groups[0]["lr"] = whole.rate
        assert torch.equal(staged_step(parts, clock), loss)
    assert list(clock.seconds) == [*PARTS[:6], "optimiser", *PARTS[6:-1]]
    for one, other in zip(whole.trained.parameters(), parts.trained.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_encoder_has_the_work_that_is_known_of_it():
    """276 million multiplications a person (docs/performance.md); of three views 2.28 encoders."""
    config = PRESETS["asma"]
    run = Pretraining(replace(config, projector=ProjectorConfig(width=8)), torch.zeros(128, 3, 50, 25, 1), NTU)
    work = work_of_step(run)
    assert work["encoder, forward"].flops / 128 / 2 == pytest.approx(2.28 * 276e6, rel=0.02)
    assert work["encoder, backward"].flops == 2 * work["encoder, forward"].flops


def test_what_is_measured_is_told():
    found = bench(SMALL, torch.randn(8, 3, 50, 25, 2), NTU, steps=1)
    assert 0 < sum(found.parts.values()) < 20 * found.step
    assert all(found.least(part) > 0 for part in PARTS)
    assert found.limits.flops > 1e9
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        bench(SMALL, torch.randn(8, 3, 50, 25, 2), NTU, steps=0)


def test_the_table():
    limits = Limits(1e9, 1e10, 1e12)
    parts = dict.fromkeys(PARTS, 0.1)
    work = dict.fromkeys(PARTS, Work(5e7, 1e9))
    lines = Measured("a step", 64, 2.0, parts, work, 3 * 10**9, limits).table().splitlines()
    assert lines[3].split() == ["data", "100.00", "ms", "5.0%", "50%"]
    assert lines[13].split() == ["whole", "step", "2000.00", "ms", "100%", "25%"]
    assert lines[15] == "32.0 clips a second, 3.00 GB at most beyond models and clips"


def test_the_command(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clips = ["--data.clips", "builtin:classes=4,subjects=4,views=1,repeats=2", "--preset", "demo"]
    small = ["--encoder.channels", "4", "8", "--encoder.strides", "2", "2", "--projector.width", "16"]
    assert main(["bench", *clips, *small, "--optimiser.batch", "4", "--steps", "1"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("one step of pretraining: 4 clips of (3, 32, 25, 1), bfloat16 on cpu, threads: 1, ")
    assert all(re.search(rf"^{part} +[\d.]+ ms", said, re.MULTILINE) for part in PARTS)
    assert not list(tmp_path.iterdir())
    assert main(["bench", *clips, *small, "--optimiser.batch", "64"]) == 2
    assert "optimiser.batch must be at most the 16 training clips, got 64" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_ours_and_pstls_losses_agree(dtype):
    random.seed(0)
    config = replace(SMALL, bfloat16=dtype == "bfloat16")
    found = step.check(config, torch.randn(16, 3, 50, 25, 2).cumsum(2) * 0.1)
    assert found["ours"] == pytest.approx(found["PSTL"], rel=step.TOLERANCE[dtype])


def test_the_gate_sees_another_loss(monkeypatch):
    peer = step.pstl.loss
    random.seed(0)
    monkeypatch.setattr(step.pstl, "loss", lambda projected, lambd: 1.001 * peer(projected, lambd))
    with pytest.raises(AssertionError, match="float32: losses"):
        step.check(SMALL, torch.randn(16, 3, 50, 25, 2).cumsum(2) * 0.1)


def test_the_gate_sees_another_gradient(monkeypatch):
    peer = step.pstl.loss
    random.seed(0)

    def half_the_gradient(projected, lambd):
        loss = peer(projected, lambd)
        return (loss + loss.detach()) / 2

    monkeypatch.setattr(step.pstl, "loss", half_the_gradient)
    with pytest.raises(AssertionError, match="gradients of encoder.data_bn.weight differ"):
        step.check(SMALL, torch.randn(16, 3, 50, 25, 2).cumsum(2) * 0.1)


def test_the_results_say_whether_a_promise_is_kept():
    rows = [
        {"provider": name, "threads": 2, "median": seconds, "min": seconds, "max": seconds, "peak_bytes": 2**30}
        for name, seconds in (("PSTL float32", 10.0), ("ours float32", 3.0), ("ours bfloat16", 2.5))
    ]
    facts = {"device": "d", "torch": "t", "asma_kernels": "a", "python": "p"}
    results = {
        "facts": facts, "command": "c", "date": "y", "batch": 64, "width": 6144, "rounds": 5, "rows": rows,
        "parts": ["a table"], "gate": {"float32": {"ours": 1.0, "PSTL": 1.0}},
    }  # fmt: skip
    page = step.markdown(results)
    assert "| 2 | ours float32 | 3.00 | 3.00 to 3.00 | 21.3 | 1,024 | 3.33x (>= 3: met) |" in page
    assert "4.00x (>= 5: NOT met)" in page and "a table" in page
