"""The Triton kernels without a GPU: interpreted in a process of their own, and compiled for every architecture."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import asma_kernels
from asma_kernels import _dispatch, _library, _triton

ROOT = Path(__file__).parents[1]
ARCHITECTURES = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
"""Bytes of shared memory that a block may have."""
needs_triton = pytest.mark.skipif(not _triton.INSTALLED, reason="triton is not installed")


def python(*arguments, **environment):
    clean = {name: value for name, value in os.environ.items() if not re.match("ASMA_|TRITON_", name)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=clean | environment, text=True, capture_output=True
    )


def printed(*arguments, **environment):
    done = python(*arguments, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def interpreting():
    """The tests of the interpreted kernels, begun in a process of their own while others compile."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "ignore", "tests/triton_interpreted"]
    clean = {name: value for name, value in os.environ.items() if not re.match("ASMA_|TRITON_", name)}
    process = subprocess.Popen(
        command, cwd=ROOT, env=clean | {"TRITON_INTERPRET": "1"}, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def compiled(interpreting, tmp_path_factory):
    told = printed("-m", "bench.kernel_table", "--json", TRITON_CACHE_DIR=str(tmp_path_factory.mktemp("triton")))
    return json.loads(told)


@needs_triton
@pytest.mark.slow
def test_every_kernel_compiles_without_a_stack_and_within_shared_memory(compiled):
    sources = [path.read_text() for path in (ROOT / "asma_kernels/triton").glob("*.py")]
    kernels = {name for source in sources for name in re.findall(r"^def (\w+_kernel)\(", source, re.MULTILINE)}
    assert len(kernels) >= len(_triton.KERNELS)
    for arch, limit in ARCHITECTURES.items():
        rows = [row for row in compiled if row["arch"] == arch]
        assert {row["kernel"] for row in rows} == kernels
        for row in rows:
            assert row["registers"] > 0, row
            assert row["stack"] == 0, row
            assert row["shared"] <= limit, row


@needs_triton
@pytest.mark.slow
def test_the_committed_table_has_every_kernel_and_no_stack(compiled):
    lines = re.findall(r"^\| (\w+_kernel) \| (.*?) \| (.*) \|$", (ROOT / "docs/kernels.md").read_text(), re.MULTILINE)
    hint = "make it anew with `python -m bench.kernel_table`"
    assert {line[:2] for line in lines} == {(row["kernel"], row["variant"]) for row in compiled}, hint
    for kernel, variant, cells in lines:
        figures = [cell.split(" / ") for cell in cells.split(" | ")]
        assert len(figures) == len(ARCHITECTURES), (kernel, variant)
        assert {stack for _, _, stack in figures} == {"0"}, (kernel, variant)


@needs_triton
@pytest.mark.slow
def test_interpreted_kernels(interpreting):
    told = interpreting.communicate()[0]
    assert interpreting.returncode == 0, told
    assert re.search(r"^\d+ passed", told, re.MULTILINE), told
    assert "skipped" not in told, told


LENGTHS = """
import torch
from bench.kernel_table import compiling
op = torch.ops.asma_triton
with compiling(90) as compiled:
    for T, N in ((34, 1), (37, 2), (48, 16), (50, 128), (64, 3)):
        x = torch.zeros(N, 3, T, 25, 2)
        op.motion_energy(x, "frame", 2.0, 1, "zero_last", None)
        op.motion_energy_backward(torch.zeros(N, T), x, "frame", 2.0, 1, "zero_last", None)
        op.skeleton_view(x, torch.arange(T // 2), None, torch.zeros(N, 3, 3), None)
        grad, picked = torch.zeros(N, 3, T // 2, 25, 2), torch.arange(T // 2)
        op.skeleton_view_backward(grad, x, T, 25, picked, None, torch.zeros(N, 3, 3), True, False, True)  # 4 kernels
        op.view_draw(torch.tensor([0, 0]), N, T, T // 6, 0.5, 0.5, 0.1, torch.arange(25), 2**31, True, True)
        op.token_mask(torch.zeros(N, 25 * T), T, torch.tensor([0, 0]), 0.8, None)  # 2 kernels
        op.barlow_twins(torch.zeros(N, 256), torch.zeros(N, 256), 0.1, 0.1)  # 4 kernels
        op.frame_mask(torch.zeros(N, T), 3, "high", 2, torch.tensor([0, 0]), True)
        op.frame_drop(x, 3, "high", 2, torch.tensor([0, 0]), True, 2.0, 1, "zero_last", None)
        x, grad = (torch.zeros(N, T, 25, width).permute(0, 3, 1, 2) for width in (16, 64))
        graph = (torch.zeros(73), torch.zeros(3, 73, dtype=torch.int64), 3, 25, 25)
        inputs = (x, *graph, torch.zeros(192, 16), torch.zeros(192), False, None)
        op.graph_conv_backward(grad, *inputs, True, True, True, True)  # 4 kernels
        op.graph_conv(*inputs)  # 2 kernels, one of them the same
        op.philox(torch.tensor([0, 0]), N, T)
print(len(compiled), len({kernel.hash for kernel in compiled}))
"""


@needs_triton
@pytest.mark.slow
def test_clips_of_another_length_do_not_compile_anew(tmp_path):
    assert printed("-c", LENGTHS, TRITON_CACHE_DIR=str(tmp_path)).split() == ["115", "22"]


ABSENT = """
import sys
sys.modules["triton"] = None
import torch, asma_kernels
from asma_kernels import env
print(asma_kernels.motion_energy(torch.arange(4.0).view(1, 1, 4, 1, 1)).tolist())
print(env.report())
try:
    asma_kernels.philox(torch.tensor([0, 0]), 1, 1, backend="triton")
except RuntimeError as error:
    print("ERROR", error)
"""


@pytest.mark.slow
def test_the_package_neither_imports_nor_needs_triton():
    told = printed("-c", "import sys, asma_kernels; print([name for name in sys.modules if 'triton' in name])")
    assert "'triton'" not in told
    assert "asma_kernels.triton" not in told
    told = printed("-c", ABSENT)
    assert told.startswith("[[1.0, 1.0, 1.0, 0.0]]")
    assert re.search(r"^\[\d\] triton is not installed$", told, re.MULTILINE), told
    assert "ERROR philox: backend 'triton' cannot run this call: triton is not installed" in told


def test_a_call_that_triton_cannot_run_says_why(monkeypatch):
    monkeypatch.setattr(_triton, "INSTALLED", True)
    monkeypatch.setattr(_triton, "INTERPRETED", False)
    x = torch.zeros(1, 3, 5, 4, 1)
    reason = "its tensors are on cpu and it was not started with TRITON_INTERPRET=1"
    with pytest.raises(RuntimeError, match=f"motion_energy: backend 'triton' cannot run this call: {reason}"):
        asma_kernels.motion_energy(x, backend="triton")
    with monkeypatch.context() as without:
        without.setattr(_triton, "KERNELS", frozenset())
        with (
            pytest.raises(RuntimeError, match="token_mask: backend 'triton' .* it has no Triton kernel yet"),
            asma_kernels.backend("triton"),
        ):
            asma_kernels.token_mask(torch.rand(1, 4), 2, torch.tensor([0, 0]))
    assert f"triton: {reason}" in asma_kernels.explain("motion_energy")
    assert _dispatch.problem("motion_energy", "triton", "meta") == "its tensors are on meta"
    assert _dispatch.problem("motion_energy", "triton", "cuda") == ""
    monkeypatch.setattr(_triton, "INTERPRETED", True)
    assert _dispatch.problem("motion_energy", "triton", "cpu") == ""
    monkeypatch.setattr(_library, "LOADED", False)
    assert "it needs the CPU library" in _dispatch.problem("motion_energy", "triton", "cuda")


def test_declared_triton_ops_are_those_with_a_kernel():
    for op in _triton.KERNELS:
        assert hasattr(torch.ops.asma_triton, op)
        assert str(getattr(torch.ops.asma_triton, op).default._schema).endswith(
            str(getattr(torch.ops.asma, op).default._schema).removeprefix(f"asma::{op}")
        )
