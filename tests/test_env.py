"""What the package says of itself: with the compiled library, with a broken one, and without any."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import asma_kernels
from asma_kernels import _dispatch, _library, env

PACKAGE = Path(asma_kernels.__file__).parent


def run(folder, *arguments, **environment):
    """Python with the package copy in ``folder``; stdout and stderr together."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ASMA_")}
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=clean | environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def broken(tmp_path):
    """A copy of the package whose library is not one."""
    shutil.copytree(PACKAGE, tmp_path / "asma_kernels", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    (tmp_path / "asma_kernels/libasma_ops.so").write_bytes(b"not a library" * 100)
    facts = {"asma_kernels": "0.0.9", "torch": "9.8.7", "compiler": "GNU 1.2.3", "isas": "generic"}
    facts |= {"cuda": "", "cuda_archs": "", "cuda_left_out": "nvcc was not found"}
    (tmp_path / "asma_kernels/_build.json").write_text(json.dumps(facts))
    return tmp_path


def test_report_names_versions_and_every_op():
    page = env.report()
    for fact in (asma_kernels.__version__, torch.__version__, sys.version.split()[0]):
        assert fact in page
    table = page.split("\n\n")[1].splitlines()
    assert table[0].split() == ["op", "cpu", "cuda", "triton", "reference"]
    assert {line.split()[0] for line in table[1:] if not line.startswith("[")} == set(env.op_names())
    assert {"motion_energy", "philox"} <= set(env.op_names())
    for op in env.op_names():
        (row,) = [line.split() for line in table if line.split()[0] == op]
        for name, cell in zip(table[0].split()[1:], row[1:], strict=True):
            device = "cpu" if name in ("cpu", "reference") else "cuda"
            no_gpu = device == "cuda" and not torch.cuda.is_available()
            assert (cell == "yes") == (not _dispatch.problem(op, name, device) and not no_gpu), (op, name)


def test_every_reason_of_the_table_is_explained(monkeypatch):
    monkeypatch.setattr(_library, "KERNELS", frozenset({("philox", "cuda")}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    page = env.report()
    numbers = set(re.findall(r" (\[\d+\])", page))
    assert len(numbers) > 2
    for number in numbers:
        assert re.search(rf"^{re.escape(number)} .{{10,}}", page, re.MULTILINE), page
    assert "there is a kernel, but no GPU: " in page


def test_an_instruction_set_that_was_not_granted_is_told(monkeypatch):
    facts = {"isas": "generic avx2 avx512", "torch": "2", "compiler": "GNU", "cuda": "", "cuda_left_out": ""}
    monkeypatch.setattr(_library, "built_with", lambda: facts)
    monkeypatch.setattr(_library, "instruction_set", lambda: "avx2")
    monkeypatch.setenv("ASMA_ISA", "avx2")
    assert "warning" not in env.report()
    assert "instructions  avx2 of generic, avx2, avx512 (ASMA_ISA=avx2)" in env.report()
    monkeypatch.setenv("ASMA_ISA", "avx512")
    assert (
        "ASMA_ISA=avx512 was not granted (this processor does not have it); the kernels run with avx2" in env.report()
    )
    monkeypatch.setenv("ASMA_ISA", "sse9")
    assert "ASMA_ISA=sse9 was not granted (built are generic, avx2, avx512); the kernels run" in env.report()


@pytest.mark.slow
def test_asma_isa_lowers_the_instruction_set():
    page = run(PACKAGE.parent, "-m", "asma_kernels.env", ASMA_ISA="generic")
    lowest = "neon" if "aarch64" in page else "generic"
    assert f"instructions  {lowest} of" in page
    assert "warning" not in page
    page = run(PACKAGE.parent, "-m", "asma_kernels.env", ASMA_ISA="sse9")
    assert "warning: ASMA_ISA=sse9 was not granted" in page


@pytest.mark.slow
def test_a_library_that_cannot_load_says_why_and_the_reference_runs(broken):
    script = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import torch, asma_kernels
print("WARNED", [str(w.message) for w in caught if "asma_kernels" in str(w.message)])
assert asma_kernels.__file__.startswith(__import__("os").getcwd())
x = torch.arange(4.0).view(1, 1, 4, 1, 1).requires_grad_()
energy = asma_kernels.motion_energy(x)
energy.sum().backward()
print("ENERGY", energy.tolist(), x.grad.flatten().tolist())
print("EXPLAIN", asma_kernels.explain("motion_energy"))
try:
    asma_kernels.motion_energy(x, backend="cpu")
except RuntimeError as error:
    print("ERROR", error)
"""
    said = dict(line.split(" ", 1) for line in run(broken, "-c", script).splitlines())
    assert said["ENERGY"] == "[[1.0, 1.0, 1.0, 0.0]] [-2.0, 0.0, 0.0, 2.0]"
    assert said["EXPLAIN"].startswith("motion_energy on cpu: reference (cpu: libasma_ops.so could not be loaded")
    assert said["ERROR"].startswith("motion_energy: backend 'cpu' cannot run this call: libasma_ops.so could not be")
    for sentence in (said["WARNED"], said["EXPLAIN"], said["ERROR"]):
        assert "built for asma-kernels 0.0.9 with torch 9.8.7 and GNU 1.2.3" in sentence
        assert f"this is asma-kernels {asma_kernels.__version__} with torch {torch.__version__}" in sentence
        assert "build it anew with `pip install --no-build-isolation" in sentence


@pytest.mark.slow
def test_report_without_a_library(broken):
    page = run(broken, "-W", "ignore", "-m", "asma_kernels.env")
    assert "libasma_ops.so could not be loaded" in page
    assert re.search(r"^motion_energy +\[1\] +\[2\] +\[\d\] +yes", page, re.MULTILINE), page
    (broken / "asma_kernels/libasma_ops.so").unlink()
    (broken / "asma_kernels/_build.json").write_text("{ damaged")
    page = run(broken, "-W", "ignore", "-m", "asma_kernels.env")
    assert "[1] libasma_ops.so was not built" in page
    assert "unknown: there is no _build.json" in page


def test_why_there_is_no_cuda_library(monkeypatch, tmp_path):
    monkeypatch.setattr(_library, "CUDA_LIBRARY", tmp_path / "libasma_cuda.so")
    monkeypatch.setattr(_library, "built_with", lambda: {"cuda_left_out": "nvcc was not found"})
    assert _library._load(_library.CUDA_LIBRARY) == "libasma_cuda.so was not built (nvcc was not found)"
    assert _library._load(tmp_path / "libasma_ops.so") == "libasma_ops.so was not built"


@pytest.mark.parametrize("op", env.op_names())
def test_a_gpu_runs_no_kernel_of_ours_unasked(op):
    assert _dispatch.explain(op, "cuda").startswith(f"{op} on cuda: reference")
