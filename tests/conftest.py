"""What every test runs under."""

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
