"""Autograd, opcheck and torch.compile of every op on CUDA tensors without a GPU: tests/fake_cuda, run in a process."""

import os
import re
import subprocess
import sys
from pathlib import Path

import emulation
import pytest
import torch

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has CUDA of its own")
def test_every_op_on_fake_cuda_tensors(tmp_path):
    library = tmp_path / "device.so"
    libraries = [emulation.TORCH / "lib" / name for name in ("libtorch_cpu.so", "libc10.so")]
    source, include = HERE / "fake_cuda/device.cpp", emulation.TORCH / "include"
    emulation.run(
        emulation.COMPILER, "-std=c++20", "-shared", "-fPIC", "-I", include, source, *libraries, "-o", library
    )
    command = [sys.executable, HERE / "fake_cuda/run.py", library]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ASMA_")}
    done = subprocess.run(command, cwd=HERE.parent, env=clean, text=True, capture_output=True)
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE), done.stdout + done.stderr
    assert "skipped" not in done.stdout, done.stdout
    assert done.returncode == 0, done.stdout + done.stderr
