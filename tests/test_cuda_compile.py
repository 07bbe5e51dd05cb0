"""The CUDA half without a GPU: nvcc compiles it for every architecture, and its kernels run on the CPU."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import emulation
import pytest
import torch

from asma_kernels import philox

ROOT = Path(__file__).parents[1]
NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
needs_nvcc = pytest.mark.skipif(NVCC is None, reason="nvcc was not found")


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """The build folder and what the build printed, with CMakeLists.txt's own flags and architectures."""
    folder = tmp_path_factory.mktemp("cuda")
    tools = os.environ | {"PATH": sysconfig.get_path("scripts") + os.pathsep + os.environ["PATH"]}
    configure = ["cmake", "-G", "Ninja", "-S", ROOT, "-B", folder, "-DASMA_CUDA=ON", f"-DCMAKE_CUDA_COMPILER={NVCC}"]
    configure += [f"-DASMA_TORCH_DIR={Path(torch.__file__).parent}"]
    subprocess.run(configure, check=True, capture_output=True, env=tools)
    command = ["cmake", "--build", folder, "--target", "asma_cuda"]
    return folder, subprocess.run(command, check=True, capture_output=True, text=True, env=tools).stdout


@needs_nvcc
@pytest.mark.slow
def test_kernels_compile_without_spills_or_stack_frames(build):
    _, printed = build
    kernels = re.findall(r"Compiling entry function '(\w+)' for '(sm_\w+)'", printed)
    assert {arch for _, arch in kernels} == {"sm_80", "sm_90", "sm_100"}
    files = [path.stem for path in (ROOT / "csrc/cuda").glob("*.cu") if "__global__" in path.read_text()]
    for op in files:
        archs = {arch for name, arch in kernels if re.search(rf"{op}\w*_kernel", name)}
        assert archs == {"sm_80", "sm_90", "sm_100"}, op
    usage = (
        r"Function properties for (\w+)\s+(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    )
    found = re.findall(usage, printed)
    assert {name for name, _ in kernels} <= {name for name, *_ in found}
    assert not [each for each in found if each[1:] != ("0", "0", "0")]


@needs_nvcc
@pytest.mark.slow
def test_library_loads_beside_a_torch_without_cuda(build):
    folder, _ = build
    needed = subprocess.run(["readelf", "-d", folder / "libasma_cuda.so"], check=True, capture_output=True, text=True)
    assert not re.search("libcuda|libcudart|libtorch_cuda|libc10_cuda|libpython|RPATH|RUNPATH", needed.stdout)
    script = """
        import sys, torch, asma_kernels
        torch.ops.load_library(sys.argv[1])
        assert torch._C._dispatch_has_kernel_for_dispatch_key("asma::philox", "CUDA")
        assert torch.equal(asma_kernels.philox(torch.tensor([0, 0]), 1, 1), torch.tensor([[0x6627E8D5]]))
    """
    script = "\n".join(line.strip() for line in script.splitlines())
    command = [sys.executable, "-W", "ignore", "-c", script, folder / "libasma_cuda.so"]
    subprocess.run(command, check=True, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.parametrize("op", emulation.OPS)
def test_no_thread_reads_what_another_writes_without_a_barrier_between(op, tmp_path):
    found = emulation.races(op, tmp_path)
    assert found.returncode == 0, found.stderr


@pytest.mark.slow
def test_a_missing_barrier_is_found(tmp_path):
    found = emulation.races("motion_energy", tmp_path, "-DWITHOUT_BARRIERS")
    assert found.returncode != 0
    assert "data race" in found.stderr


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (9, 33), (40, 7), (3, 14_000), (7_000, 2), (0, 5), (5, 0)])
@pytest.mark.parametrize("step", [1, 3])
def test_philox_is_bit_equal_to_the_reference(emulated, rows, columns, step):
    rng = torch.tensor([-7, 2**40 + 3]).repeat_interleave(step)[::step]
    assert torch.equal(emulated.philox(rng, rows, columns), philox(rng, rows, columns, backend="reference"))
