import pytest
import test_gpu
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import opcheck
from torch.utils._python_dispatch import TorchDispatchMode

import asma_kernels
from asma_kernels import _library, _triton


class Calls(TorchDispatchMode):
    """Remembers the calls of our ops."""

    def __init__(self):
        super().__init__()
        self.made = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace.startswith("asma"):
            self.made.append((function, args))
        return function(*args, **(kwargs or {}))


class CompiledPlace(test_gpu.Place):
    def with_gradients(self, function, *inputs):
        torch._dynamo.reset()
        return super().with_gradients(torch.compile(function, fullgraph=True, backend="aot_eager"), *inputs)


@pytest.fixture(params=["cuda", "triton"])
def backend(request, monkeypatch):
    """As on a machine with a GPU, where every kernel has been built."""
    monkeypatch.setattr(_library, "KERNELS", _library.KERNELS | {(op, "cuda") for op in test_gpu.CALLS})
    monkeypatch.setattr(_triton, "INSTALLED", True)
    return request.param


def described(tensors):
    return [(tensor.shape, tensor.dtype) for tensor in tensors]


@pytest.mark.parametrize("op", test_gpu.CALLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shapes_gradients_compilation_and_opcheck(op, dtype, backend):
    expected = described(test_gpu.CALLS[op](test_gpu.Place("cpu", dtype)))
    with FakeTensorMode(allow_non_fake_inputs=True), asma_kernels.backend(backend):
        with Calls() as calls:
            outputs = test_gpu.CALLS[op](test_gpu.Place("cuda", dtype))
        assert described(outputs) == expected
        assert {output.device.type for output in outputs} == {"cuda"}
        assert calls.made
        assert described(test_gpu.CALLS[op](CompiledPlace("cuda", dtype))) == expected
        for function, arguments in calls.made[:2]:
            opcheck(function, arguments)
        namespace = "asma" if backend == "cuda" else "asma_triton"
        assert {function.namespace for function, _ in calls.made} == {namespace}
