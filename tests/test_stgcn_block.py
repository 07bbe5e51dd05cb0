"""ST-GCN's block: written out with PyTorch's own modules, its gradients, the module around it, and every error."""

import pytest
import torch
from cases import check_compiled
from torch import nn
from torch.nn import functional as F

import asma_kernels
from asma_kernels import Skeleton, SparseGraph, philox, stgcn_block, stgcn_block_folded
from asma_kernels.nn import STGCNBlock

ADJACENCY = Skeleton.builtin("coco17").partition("spatial").double()
RNG = torch.tensor([5, 1])


def module(residual=True, C=4, D=4, stride=1, dropout=0.0):
    block = STGCNBlock(C, D, partitions=3, kernel=3, stride=stride, dropout=dropout, residual=residual).double()
    with torch.no_grad():
        for name, tensor in block.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor), alpha=0.3)
    return block


def parts(block):
    """What the op takes of a module."""
    conv, norms, residual = block.tcn[2], [block.tcn[0], block.tcn[3]], block.residual
    shortcut = residual[0] if isinstance(residual, nn.Sequential) else None
    return {
        "gcn": (block.gcn.conv.weight, block.gcn.conv.bias),
        "norm1": (norms[0].weight, norms[0].bias),
        "conv": (conv.weight, conv.bias),
        "norm2": (norms[1].weight, norms[1].bias),
        "shortcut": None if shortcut is None else (shortcut.weight, shortcut.bias),
        "norm3": None if shortcut is None else (residual[1].weight, residual[1].bias),
        "identity": isinstance(residual, nn.Identity),
        "stride": conv.stride[0],
    }


KINDS = [(False, 4, 4, 1), (True, 4, 4, 1), (True, 3, 4, 2), (True, 4, 4, 2)]


@pytest.mark.parametrize(("residual", "C", "D", "stride"), KINDS)
@pytest.mark.parametrize("joints", [None, torch.tensor([0, 2, 9, 16])])
def test_is_what_pytorchs_modules_compute(residual, C, D, stride, joints):
    block, x = module(residual, C, D, stride), torch.randn(3, C, 7, 17, dtype=torch.float64)
    x = x if joints is None else x[..., joints]
    result = stgcn_block(x, ADJACENCY, joints=joints, **parts(block))
    before = {name: buffer.clone() for name, buffer in block.named_buffers()}
    torch.testing.assert_close(result.out, block(x, ADJACENCY, joints))
    norms = {"tcn.0": (0, 7), "tcn.3": (1, result.out.shape[2])} | (
        {"residual.1": (2, result.out.shape[2])} if isinstance(block.residual, nn.Sequential) else {}
    )
    for name, (place, frames) in norms.items():  # the module's running statistics went towards the batch's
        count = 3 * frames * x.shape[3]
        mean, variance = result.mean[place], result.variance[place] * count / (count - 1)
        after = dict(block.named_buffers())
        torch.testing.assert_close(after[f"{name}.running_mean"], 0.9 * before[f"{name}.running_mean"] + 0.1 * mean)
        torch.testing.assert_close(after[f"{name}.running_var"], 0.9 * before[f"{name}.running_var"] + 0.1 * variance)


@pytest.mark.parametrize(("residual", "C", "D", "stride"), KINDS)
def test_folded_is_the_block_in_evaluation(residual, C, D, stride):
    block, x = module(residual, C, D, stride).eval(), torch.randn(2, C, 7, 17, dtype=torch.float64)
    torch.testing.assert_close(stgcn_block_folded(x, ADJACENCY, **block.folded()), block(x, ADJACENCY))


def test_dropout_drops_by_the_words_of_philox():
    block, x = module(residual=False), torch.randn(2, 4, 5, 17, dtype=torch.float64)
    given = parts(block)
    whole = stgcn_block(x, ADJACENCY, **given)
    dropped = stgcn_block(x, ADJACENCY, **given, dropout=0.25, rng=RNG)
    words = philox(RNG, 2, 5 * 17 * 4).view(2, 5, 17, 4).movedim(3, 1)
    torch.testing.assert_close(dropped.out, torch.where(words < 2**30, 0, whole.out / 0.75))
    assert torch.equal(dropped.mean, whole.mean)


@pytest.mark.slow
@pytest.mark.parametrize(("residual", "C", "D", "stride"), KINDS)
def test_gradcheck_of_the_op(residual, C, D, stride):
    block, x = module(residual, C, D, stride), torch.randn(2, C, 3, 3, dtype=torch.float64, requires_grad=True)
    joints = torch.tensor([1, 5, 7])
    graph = SparseGraph.from_dense(ADJACENCY)
    calls = recorded(lambda: stgcn_block(x, graph, joints=joints, dropout=0.3, rng=RNG, **parts(block)), x)
    function, arguments = calls
    places = [0, 1, *(place for place in range(7, 19) if arguments[place] is not None)]

    def call(*tensors):
        given = list(arguments)
        for place, tensor in zip(places, tensors, strict=True):
            given[place] = tensor
        return function(*given)[0]

    leaves = [arguments[place].detach().requires_grad_() for place in places]
    assert torch.autograd.gradcheck(call, leaves)


def recorded(call, x):
    """The op and the arguments that the public function gives to ``torch.ops.asma``."""
    from asma_kernels.ops import stgcn_block as ops

    found = []

    def run(op, backend, arguments):
        found.append((getattr(torch.ops.asma, op), arguments))
        return getattr(torch.ops.asma, op)(*arguments)

    kept, ops._run = ops._run, run
    try:
        call()
    finally:
        ops._run = kept
    return found[0]


@pytest.mark.parametrize(("residual", "C", "D", "stride"), [KINDS[1], KINDS[2]])
def test_opcheck(residual, C, D, stride):
    block, x = module(residual, C, D, stride), torch.randn(2, C, 3, 17, dtype=torch.float64)
    function, arguments = recorded(lambda: stgcn_block(x, ADJACENCY, dropout=0.3, rng=RNG, **parts(block)), x)
    torch.library.opcheck(function.default, arguments)
    with torch.no_grad():
        function, arguments = recorded(lambda: stgcn_block_folded(x, ADJACENCY, **block.folded()), x)
    torch.library.opcheck(function.default, arguments)


def test_double_backward_is_refused_by_the_op():
    block, x = module(), torch.randn(2, 4, 3, 17, dtype=torch.float64, requires_grad=True)
    function, arguments = recorded(lambda: stgcn_block(x, ADJACENCY, **parts(block)), x)
    (grad,) = torch.autograd.grad(function(*arguments)[0].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="stgcn_block: double backward is not implemented"):
        grad.sum().backward()


def test_gradients_through_the_folded_op_are_refused():
    block, x = module(), torch.randn(2, 4, 3, 17, dtype=torch.float64, requires_grad=True)
    function, arguments = recorded(lambda: stgcn_block_folded(x, ADJACENCY, **block.folded()), x)
    with pytest.raises(RuntimeError, match="stgcn_block_folded: it is for inference and has no gradient"):
        function(*arguments).sum().backward()


def test_compiled_equals_eager_without_a_recompile():
    block = module().eval()
    given, folded = parts(block), block.folded()
    x = [torch.randn(2, 4, 5, 17, dtype=torch.float64) for _ in range(2)]
    check_compiled(lambda x: stgcn_block(x, ADJACENCY, **given).out, *((one,) for one in x))
    check_compiled(lambda x: stgcn_block_folded(x, ADJACENCY, **folded), *((one,) for one in x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_dtypes(dtype):
    block, x = module(C=3, stride=2), torch.randn(2, 3, 6, 17).to(dtype)
    expected = stgcn_block(x.double(), ADJACENCY, **parts(block))
    result = stgcn_block(x, ADJACENCY.float(), **parts(block.float()))
    assert (result.out.dtype, result.mean.dtype) == (dtype, torch.float32)
    torch.testing.assert_close(result.out.double(), expected.out, rtol=2e-2, atol=2e-2)
    assert not result.mean.requires_grad


def test_autocast_casts_x_alone():
    block, x = module(C=3).float(), torch.randn(2, 3, 6, 17)
    with torch.autocast("cpu", torch.bfloat16):
        result = stgcn_block(x, ADJACENCY.float(), **parts(block))
    assert result.out.dtype == torch.bfloat16
    expected = stgcn_block(x.bfloat16(), ADJACENCY.float(), **parts(block))
    assert torch.equal(result.out, expected.out)


def test_errors():
    block, x = module(), torch.randn(2, 4, 5, 17, dtype=torch.float64)
    good = parts(block)

    def check(error, words, given=x, op=stgcn_block, arguments=good, **changed):
        with pytest.raises(error, match=words):
            op(given, ADJACENCY, **(arguments | changed))

    two = torch.zeros(2, dtype=torch.float64)
    check(ValueError, r"stgcn_block: x must be \(N, C, T, V\), got shape \(2, 4\)", torch.zeros(2, 4))
    check(ValueError, "stgcn_block: x has 3 joints, the graph 17", x[..., :3])
    check(ValueError, r"stgcn_block: norm1 must hold two tensors \(4,\), got \(2,\)", norm1=(two, two))
    check(TypeError, "stgcn_block: norm2 must be torch.float64, got torch.float32", norm2=(torch.ones(4),) * 2)
    even = (torch.zeros(4, 4, 2, 1, dtype=torch.float64), None)
    check(ValueError, r"stgcn_block: conv must be \(4, 4, taps, 1\) with odd taps, got \(4, 4, 2, 1\)", conv=even)
    check(ValueError, r"stgcn_block: conv's bias must be \(4,\), got \(2,\)", conv=(good["conv"][0], two))
    check(ValueError, "stgcn_block: stride must be >= 1, got 0", stride=0)
    check(ValueError, "stgcn_block: identity needs C = D and stride 1, got 4, 4 and 2", stride=2)
    check(ValueError, r"stgcn_block: dropout must be in \[0, 1\), got 1.0", dropout=1.0, rng=RNG)
    check(ValueError, "stgcn_block: dropout needs rng, got none with dropout = 0.5", dropout=0.5)
    check(ValueError, "stgcn_block: eps must be > 0, got 0", eps=0)
    shortcut = (torch.zeros(4, 4, 1, 1, dtype=torch.float64), None)
    check(ValueError, "stgcn_block: the residual is a shortcut or the identity, got both", shortcut=shortcut)
    check(ValueError, "stgcn_block: shortcut and norm3 go together", shortcut=shortcut, identity=False)
    wrong = (torch.zeros(4, 3, 1, 1, dtype=torch.float64), None)
    check(
        ValueError, r"stgcn_block: shortcut must be \(4, 4, 1, 1\), got \(4, 3, 1, 1\)", shortcut=wrong, identity=False
    )
    check(ValueError, "stgcn_block: batch norms need more than one number a channel", x[:1, :, :1, :1],
          joints=torch.tensor([0]))  # fmt: skip
    words = "stgcn_block: backend 'cuda' cannot run this call: its tensors are on cpu"
    check(RuntimeError, words, backend="cuda")
    words = "stgcn_block_folded: backend 'cpu' cannot run this call: it has no cpu kernel yet"
    check(RuntimeError, words, op=stgcn_block_folded, arguments=block.folded(), backend="cpu")
    wrong_shift = block.folded() | {"shift": two}
    check(
        ValueError,
        r"stgcn_block_folded: shift must be \(4,\), got \(2,\)",
        op=stgcn_block_folded,
        arguments=wrong_shift,
    )
    with pytest.raises(ValueError, match="STGCNBlock: kernel must be odd, got 4"):
        STGCNBlock(3, 4, 3, kernel=4)


def test_a_norm_that_was_set_apart_is_left_to_its_module(monkeypatch):
    """Calibration puts norms into another mode than the block; the fused path then stays away."""
    block, x = module(dropout=0.0).float(), torch.randn(2, 4, 5, 17)
    monkeypatch.setattr(asma_kernels._dispatch, "fuses", lambda op, device: "triton")
    block.tcn[0].momentum = None
    out = block(x, ADJACENCY.float())  # would fail on this machine if it took Triton
    torch.testing.assert_close(out, F.relu(block.tcn(block.gcn(x, ADJACENCY.float())) + x), rtol=1e-5, atol=1e-5)
