"""The CUDA half without a GPU: nvcc compiles it for every architecture, and its kernels run on the CPU."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import emulation
import pytest
import torch

from asma_kernels import philox
from bench import cuda_table

ROOT = Path(__file__).parents[1]
needs_nvcc = pytest.mark.skipif(cuda_table.nvcc() is None, reason="nvcc was not found")


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """The build folder, and what every kernel asks of a GPU."""
    folder = tmp_path_factory.mktemp("cuda")
    return folder, cuda_table.usages(cuda_table.build(folder))


@needs_nvcc
@pytest.mark.slow
def test_kernels_compile_without_spills_or_stack_frames(build):
    _, usages = build
    kernels = re.compile(r"__global__.*?(\w+_kernel)\(", re.DOTALL)
    sources = [path.read_text() for path in (ROOT / "csrc/cuda").glob("*.cu")]
    assert {row.kernel for row in usages} == {name for source in sources for name in kernels.findall(source)}
    for kernel in {row.kernel for row in usages}:
        assert {row.arch for row in usages if row.kernel == kernel} == set(cuda_table.ARCHITECTURES), kernel
    assert not [row for row in usages if row.stack or row.shared > cuda_table.SHARED_LIMIT]


@needs_nvcc
@pytest.mark.slow
def test_the_committed_table_has_every_kernel_and_no_stack(build):
    _, usages = build
    lines = re.findall(r"^\| (\w+_kernel) \| (\d+) \| (.*) \|$", cuda_table.PAGE.read_text(), re.MULTILINE)
    hint = "make it anew with `python -m bench.cuda_table`"
    count = Counter((row.kernel, row.arch) for row in usages)
    assert {(kernel, int(instances)) for kernel, instances, _ in lines} == {
        (kernel, instances) for (kernel, _), instances in count.items()
    }, hint
    for kernel, _, cells in lines:
        assert {cell.split(" / ")[2] for cell in cells.split(" | ")} == {"0"}, kernel


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
