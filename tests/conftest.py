"""What every test runs under."""

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


@pytest.fixture(scope="session")
def emulated(tmp_path_factory) -> SimpleNamespace:
    """torch.ops.asma_emulated: the CUDA ops, their kernels run on the CPU."""
    torch.ops.load_library(emulation.build(tmp_path_factory.mktemp("emulated")))
    return torch.ops.asma_emulated


@pytest.fixture(scope="session")
def edge_build(tmp_path_factory):
    """The edge engine's build folder: a shared library and asma-edge."""
    return edge_engine.build(tmp_path_factory.mktemp("edge"), "-DBUILD_SHARED_LIBS=ON")


@pytest.fixture(scope="session")
def engine(edge_build):
    return edge_engine.Engine(edge_build / "csrc/edge/libasma_edge.so")
