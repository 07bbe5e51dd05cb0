import pytest
import test_gpu
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import opcheck
from torch.utils._python_dispatch import TorchDispatchMode

import asma_kernels
from asma_kernels import _library, _triton
from asma_kernels.nn import STGCNBlock


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


def test_fused_blocks_compile_whole(monkeypatch):
    """With dropout, running statistics and kept joints, in training and folded in evaluation."""
    monkeypatch.setattr(_triton, "INSTALLED", True)
    seen = set()

    def look(module, inputs):
        seen.update(str(node.target).removesuffix(".default") for node in module.graph.nodes)
        return make_boxed_func(module.forward)

    with FakeTensorMode(allow_non_fake_inputs=True), asma_kernels.backend("triton"), torch.device("cuda"):
        graph = test_gpu.GRAPH._replace(values=test_gpu.GRAPH.values.float().cuda(), edges=test_gpu.GRAPH.edges.cuda())
        first, last = STGCNBlock(3, 16, 3, dropout=0.5, residual=False), STGCNBlock(16, 32, 3, stride=2, dropout=0.5)
        blocks, joints, x = torch.nn.ModuleList([first, last]), torch.arange(17), torch.randn(4, 3, 20, 17).bfloat16()
        backend = aot_autograd(fw_compiler=look, bw_compiler=look)
        compiled = torch.compile(
            lambda x: last(first(x, graph, joints), graph, joints), fullgraph=True, backend=backend
        )
        out = compiled(x)
        assert (out.shape, out.dtype, out.device.type) == ((4, 32, 10, 17), torch.bfloat16, "cuda")
        out.sum().backward()
        assert all(parameter.grad is not None for parameter in blocks.parameters())
        ours = {name for name in seen if name.startswith("asma")}
        assert ours == {"asma_triton.stgcn_block", "asma_triton.stgcn_block_backward"}
        seen.clear()
        blocks.eval()
        with torch.no_grad():
            assert compiled(x).shape == (4, 32, 10, 17)
        assert {name for name in seen if name.startswith("asma")} == {"asma_triton.stgcn_block_folded"}
