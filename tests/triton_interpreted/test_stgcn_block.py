import cases
import pytest
import torch

import asma_kernels
from asma_kernels import Skeleton, SparseGraph, stgcn_block
from asma_kernels.nn import STGCNBlock

GRAPH = SparseGraph.from_dense(Skeleton.builtin("coco17").partition("spatial"))
RNG = torch.tensor([3, 2**33])


def random(*shape, dtype=torch.float32):
    return torch.randn(shape).to(torch.bfloat16).to(dtype)  # the same numbers in every dtype


def block(C, D, residual, bias, dtype):
    """Leaves, and the function from them and x to the block's output."""
    names = {"gcn": (3 * D, C), "norm1": (D,), "conv": (D, D, 3, 1), "norm2": (D,), "values": GRAPH.values.shape}
    if residual == "conv":
        names |= {"shortcut": (D, C, 1, 1), "norm3": (D,)}
    leaves = {name: random(*shape, dtype=dtype) / max(shape[0] // 3, 1) ** 0.5 for name, shape in names.items()}
    for name in [name for name in names if name != "values"]:
        if bias or name.startswith("norm"):
            leaves[f"{name}_bias"] = random(names[name][0], dtype=dtype) / 4
    keys = list(leaves)

    def call(x, *tensors, **options):
        given = dict(zip(keys, tensors, strict=True))
        pair = {name: (given[name], given.get(f"{name}_bias")) for name in names if name != "values"}
        graph = GRAPH._replace(values=given["values"])
        return stgcn_block(
            x, graph, pair["gcn"], pair["norm1"], pair["conv"], pair["norm2"], shortcut=pair.get("shortcut"),
            norm3=pair.get("norm3"), identity=residual == "identity", **options,
        )  # fmt: skip

    return list(leaves.values()), call


@pytest.mark.parametrize(
    ("residual", "C", "D", "stride", "dropout", "joints", "bias"),
    [
        ("none", 3, 16, 1, 0.0, None, True),
        ("identity", 16, 16, 1, 0.5, "shared", True),
        ("conv", 8, 20, 2, 0.3, "rows", True),
        ("conv", 8, 20, 2, 0.0, None, False),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_forward_and_gradients_agree_with_the_reference(residual, C, D, stride, dropout, joints, bias, dtype):
    N, T = 3, 11
    kept = {
        None: None,
        "shared": torch.tensor([0, 3, 4, 9, 16]),
        "rows": torch.stack([torch.arange(i, i + 6) for i in range(N)]),
    }
    options = {"stride": stride, "dropout": dropout, "rng": RNG, "joints": kept[joints]}
    leaves, call = block(C, D, residual, bias, torch.float32)
    x = random(N, C, T, 17 if joints is None else kept[joints].shape[-1], dtype=dtype)
    tolerance = 5e-4 if dtype == torch.float32 else 5e-2

    def both(backend, x, leaves):
        result = call(x, *leaves, backend=backend, **options)

        def run(x, *leaves):
            return call(x, *leaves, backend=backend, **options).out

        return [*result, *cases.gradients(run, x, *leaves)]

    expected = both("reference", x.double(), [leaf.double() for leaf in leaves])
    for actual, wanted in zip(both("triton", x, leaves), expected, strict=True):
        assert actual.shape == wanted.shape
        scale = max(float(wanted.abs().max()), 1.0)
        torch.testing.assert_close(actual.double() / scale, wanted / scale, rtol=tolerance, atol=tolerance)


def trained(residual, C=8, D=16, stride=2):
    module = STGCNBlock(C, D, partitions=3, kernel=3, stride=stride, residual=residual)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point():
                tensor.add_(0.3 * torch.randn_like(tensor))
    return module


@pytest.mark.parametrize(("residual", "C", "stride"), [(False, 8, 1), (True, 16, 1), (True, 8, 2)])
def test_the_module_trains_and_evaluates_as_its_parts_do(residual, C, stride):
    module, x = trained(residual, C, stride=stride), torch.randn(3, C, 7, 17)
    twin = trained(residual, C, stride=stride)
    twin.load_state_dict(module.state_dict())
    with asma_kernels.backend("triton"):
        out = module(x, GRAPH)
    expected = twin(x, GRAPH)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
    out.square().sum().backward()
    expected.square().sum().backward()
    for (name, state), (_, other) in zip(module.state_dict().items(), twin.state_dict().items(), strict=True):
        torch.testing.assert_close(state, other, rtol=1e-4, atol=1e-5, msg=name)
    for (name, one), (_, other) in zip(module.named_parameters(), twin.named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=2e-3, msg=name)
    module.eval()
    twin.eval()
    with torch.no_grad():
        with asma_kernels.backend("triton"):
            out = module(x, GRAPH)
        torch.testing.assert_close(out, twin(x, GRAPH), rtol=1e-4, atol=1e-4)


def test_the_encoder_by_fused_blocks_is_the_encoder():
    from asma.config import EncoderConfig
    from asma.models import Encoder

    config = EncoderConfig(channels=(16, 16, 24), strides=(1, 2, 1), kernel=3, dropout=0.0)
    encoder, x = Encoder(config, Skeleton.builtin("coco17")), torch.randn(2, 3, 9, 17, 2)
    joints = torch.tensor([0, 1, 2, 5, 6, 9])
    expected = encoder(x, joints)
    encoder.zero_grad()
    expected.square().sum().backward()
    grads = [parameter.grad.clone() for parameter in encoder.parameters()]
    encoder.zero_grad()
    with asma_kernels.backend("triton"):
        actual = encoder(x, joints)
        actual.square().sum().backward()
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    for (name, parameter), wanted in zip(encoder.named_parameters(), grads, strict=True):
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-3, atol=1e-3, msg=name)


def test_float64_is_refused():
    leaves, call = block(16, 16, "none", False, torch.float64)
    with pytest.raises(TypeError, match="stgcn_block: backend 'triton' takes float32, bfloat16 or float16"):
        call(random(2, 16, 3, 17, dtype=torch.float64), *leaves, backend="triton")


def test_opcheck():
    leaves, call = block(16, 16, "identity", True, torch.float32)
    calls = []
    from torch.utils._python_dispatch import TorchDispatchMode

    class Remember(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function.namespace == "asma_triton":
                calls.append((function, args))
            return function(*args, **(kwargs or {}))

    with Remember():
        call(random(2, 16, 3, 17), *leaves, backend="triton")
    torch.library.opcheck(*calls[0])
