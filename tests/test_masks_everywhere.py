"""Masks are the same bits on every backend: reference, C++, the CUDA kernels run on the CPU, interpreted Triton."""

import os
import subprocess
import sys

import pytest
import torch

from asma_kernels import _triton
from asma_kernels.reference import frame_drop, frame_mask, joint_mask, philox, token_mask

MODULES = (frame_drop, frame_mask, joint_mask, philox, token_mask)
REFERENCES = {module.__name__.rpartition(".")[2]: module for module in MODULES}
SEEDS = 12
INTERPRETED = """
import sys, torch, asma_kernels
calls = torch.load(sys.argv[1])
torch.save([getattr(torch.ops.asma_triton, op)(*arguments) for op, arguments in calls], sys.argv[2])
"""


def calls():
    """(op, arguments) of many seeds and shapes; energies and scores with ties and special values."""
    found = []
    for seed in range(SEEDS):
        numbers = torch.Generator().manual_seed(seed)

        def integer(low, high, numbers=numbers):
            return int(torch.randint(low, high, (), generator=numbers))

        def rng(numbers=numbers):
            return torch.randint(-(2**62), 2**62, (2,), generator=numbers)

        def ties(rows, columns, dtype, numbers=numbers):
            values = torch.randint(-3, 9, (rows, columns), generator=numbers) / 4
            values[0, 0] = float("nan")
            return values.to(dtype)

        V, T, L, rows = integer(2, 40), integer(2, 140), integer(2, 90), integer(1, 6)
        dtype = (torch.float64, torch.float32, torch.bfloat16, torch.float16)[seed % 4]
        weights = torch.randint(0, 6, (V,), generator=numbers)
        found.append(("philox", (rng(), rows, V)))
        for mode in ("fixed", "tokens", "deterministic"):
            k = integer(0, min(V, int(weights.sum())) + 1)
            found.append(("joint_mask", (weights, k, rows, rng(), mode, bool(integer(0, 2)))))
        for which in ("high", "low"):
            drop = integer(0, T)
            energy = ties(rows, T, dtype)
            found.append(("frame_mask", (energy, drop, which, integer(0, T - drop), rng(), bool(integer(0, 2)))))
        # Energies of small integers are exact, whatever the order of their sum.
        clip = torch.randint(-3, 4, (rows, 3, T, 4, 1), generator=numbers).to(dtype)
        drop = integer(0, T)
        options = (rng(), bool(integer(0, 2)), 2.0, 1, "zero_last", None)
        found.append(("frame_drop", (clip, drop, "high", integer(0, T - drop), *options)))
        noise = torch.randint(-8, 9, (rows, L), generator=numbers) / 8
        found.append(("token_mask", (ties(rows, L, torch.float32).nan_to_num(1).abs(), L // 3, None, 0.5, noise)))
    return found


def assert_same(made, expected):
    for actual, wanted in zip(made, expected, strict=True):
        parts = [(actual, wanted)] if isinstance(wanted, torch.Tensor) else list(zip(actual, wanted, strict=True))
        for one, other in parts:
            assert one.dtype == other.dtype
            assert torch.equal(one, other)


@pytest.fixture(scope="module")
def expected():
    return [getattr(REFERENCES[op], op)(*arguments) for op, arguments in calls()]


def test_cpu(expected):
    assert_same([getattr(torch.ops.asma, op)(*arguments) for op, arguments in calls()], expected)


def test_cuda_kernels_on_the_cpu(emulated, expected):
    assert_same([getattr(emulated, op)(*arguments) for op, arguments in calls()], expected)


@pytest.mark.slow
@pytest.mark.skipif(not _triton.INSTALLED, reason="triton is not installed")
def test_interpreted_triton(tmp_path, expected):
    torch.save(calls(), tmp_path / "calls.pt")
    command = [sys.executable, "-W", "ignore", "-c", INTERPRETED, tmp_path / "calls.pt", tmp_path / "made.pt"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ASMA_")}
    done = subprocess.run(command, env=clean | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same(torch.load(tmp_path / "made.pt"), expected)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("part", [1, 3])
def test_a_row_does_not_depend_on_how_many_there_are(backend, part):
    from asma_kernels import frame_mask, joint_mask, philox

    rng, energy = torch.tensor([5, 9]), torch.rand(8, 50)
    weights = torch.arange(1, 26)
    for draw in (
        lambda rows: philox(rng, rows, 25, backend=backend),
        lambda rows: joint_mask(weights, 8, rows, rng, shared=False, backend=backend).mask,
        lambda rows: frame_mask(energy[:rows], 10, "high", 10, rng, shared=False, backend=backend),
    ):
        assert torch.equal(draw(8)[:part], draw(part))
