"""What every test runs under."""

import fcntl
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import edge_engine
import emulation
import pytest
import torch


@pytest.fixture(autouse=True)
def poisoned_memory():
    """``torch.empty`` gives NaN (and the largest integers), also inside the compiled library: a kernel that leaves a
    hole in its output is found."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def pytest_configure(config: pytest.Config) -> None:
    """Test processes that run side by side share the processors."""
    worker = getattr(config, "workerinput", None)
    if worker:
        threads = max(1, (os.cpu_count() or 1) // worker["workercount"])
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # of what tests start
        torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def built_once(tmp_path_factory, pytestconfig) -> Callable[[str, Callable[[Path], Path]], Path]:
    """What the test processes of a run share: the first that asks for it builds it, in a folder of that name."""
    shared = tmp_path_factory.getbasetemp()
    if hasattr(pytestconfig, "workerinput"):
        shared = shared.parent

    def built(name: str, build: Callable[[Path], Path]) -> Path:
        folder, result = shared / name, shared / f"{name}.built"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not result.exists():
                folder.mkdir()
                result.write_text(str(build(folder)))
        return Path(result.read_text())

    return built


@pytest.fixture(scope="session")
def emulated(built_once) -> SimpleNamespace:
    """torch.ops.asma_emulated: the CUDA ops, their kernels run on the CPU."""
    torch.ops.load_library(built_once("emulated", emulation.build))
    return torch.ops.asma_emulated


@pytest.fixture(scope="session")
def edge_build(built_once):
    """The edge engine's build folder: a shared library, asma-edge and, where it can be built, the module asma_edge."""
    options = ["-DBUILD_SHARED_LIBS=ON"]
    headers = os.path.join(sysconfig.get_path("include"), "Python.h")
    if os.path.isfile(headers) and importlib.util.find_spec("pybind11"):
        options += ["-DASMA_EDGE_PYTHON=ON", f"-DPython_EXECUTABLE={sys.executable}"]
    return built_once("edge", lambda folder: edge_engine.build(folder, *options))


@pytest.fixture(scope="session")
def engine(edge_build):
    return edge_engine.Engine(edge_build / "csrc/edge/libasma_edge.so")
