"""patch(): what is replaced computes and trains as before, what is not says why. The models are own transcriptions."""

import copy
import random

import numpy as np
import pytest
import torch
import units
from peer_units import A3, G3D, Adaptive, Decoupled, GraphConvolution, Model, Pyskl, Refined, Relations, Scales, V
from torch import nn
from torch.nn.utils import prune

from asma_kernels import nn as ours
from asma_kernels import patch

CASES = {  # a unit, our module, C
    "fixed": (lambda: Pyskl(4, 6, "fixed"), ours.PysklGCN, 4),
    "init": (lambda: Pyskl(4, 4, "init", act=nn.LeakyReLU(0.3)), ours.PysklGCN, 4),
    "offset": (lambda: Pyskl(4, 6, "offset", "post"), ours.PysklGCN, 4),
    "importance": (lambda: Pyskl(4, 6, residual=False), ours.PysklGCN, 4),
    "no residual though it could": (lambda: Pyskl(4, 4, "init", residual=False), ours.PysklGCN, 4),
    "relations": (lambda: Relations(16, 4, "left"), ours.CTRGC, 16),
    "relations from the right": (lambda: Relations(16, 4, "right"), ours.PysklCTRGC, 16),
    "refined": (lambda: Refined(16, 8), ours.CTRGCN, 16),
    "refined, bare": (lambda: Refined(16, 16, residual=False), ours.CTRGCN, 16),
    "refined, not learned": (lambda: Refined(16, 8, learned=False), ours.CTRGCN, 16),
    "refined, pyskl's": (lambda: Refined(16, 8, "right"), ours.PysklCTRGCN, 16),
    "adaptive": (lambda: Adaptive(4, 8), ours.AGCN, 4),
    "adaptive, AAGCN's": (lambda: Adaptive(8, 8, "PA"), ours.AAGCN, 8),
    "adaptive, pyskl's": (lambda: Adaptive(4, 8, "A"), ours.PysklAAGCN, 4),
    "decoupled": (lambda: Decoupled(4, 8), ours.DecoupleGCN, 4),
    "scales": (lambda: Scales(4, 8), ours.MSGCN, 4),
    "windows": (lambda: G3D(4, 8), ours.MSG3D, 4),
    "windows, with a residual": (lambda: G3D(4, 8, True), ours.MSG3D, 4),
    "scales, not learned": (lambda: Scales(4, 8, learned=False), ours.MSGCN, 4),
}


def holder(unit):
    model = nn.Module()
    model.unit = unit
    return model


def disturb(model):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def step(model, given):
    """Output and gradients by name."""
    model.zero_grad(set_to_none=True)
    out = model(*given)
    out = out[0] if isinstance(out, tuple) else out
    (out * torch.linspace(-1, 2, out.numel()).view(out.shape)).sum().backward()
    return out.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def check_equal(one, other, given):
    (wanted, gradients), (found, others) = step(one, given), step(other, given)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    torch.testing.assert_close(others, gradients, rtol=1e-4, atol=1e-5 * largest)
    held = dict(other.named_buffers())
    for name, buffer in one.named_buffers():
        torch.testing.assert_close(held[name], buffer, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_what_is_known(case):
    make, replacement, C = CASES[case]
    model = disturb(holder(make()))
    before, kept = copy.deepcopy(model), dict(model.named_parameters())
    x = torch.randn(2, C, 5, V)
    given = (x, A3[0], torch.tensor(0.7)) if "relations" in case else (x,)
    done = patch(model)
    assert type(model.unit) is replacement, str(done)
    (row,) = done.rows
    assert row.name == "unit" and row.replacement == replacement.__name__ and row.why == "" and row.difference < 1e-10
    assert list(model.state_dict()) == list(before.state_dict())
    now = dict(model.named_parameters())
    assert list(now) == list(kept) and all(now[name] is kept[name] for name in kept)
    check_equal(before.unit, model.unit, given)
    model.load_state_dict(before.state_dict())
    before.load_state_dict(model.state_dict())
    done.undo()
    assert type(model.unit) is type(before.unit)
    assert all(parameter is kept[name] for name, parameter in model.named_parameters())
    check_equal(before.unit, model.unit, given)


OTHERS = {
    "groups": lambda: ours.DGGCN(4, 8, A3, ctr=None, ada="NA", subset_wise=True, ada_act="tanh", act="SiLU"),
    "groups that return their graph": lambda: ours.ProtoGCN(4, 8, A3, ratio=0.5),
    "attention": lambda: ours.SAGC(16, 8, A3),
    "hypergraphs": lambda: ours.HyperGCN(32, 64, 25, 3, torch.rand(8, 28, 28)),
    "hypergraphs of the body": lambda: ours.HyperGCN(32, 32, V, 0, torch.rand(8, V, V)),
    "layers": lambda: ours.HDGCN(4, 8, units.adjacency(3, V).repeat(2, 1, 1, 1)),
    "layers and attention": lambda: ours.HDGCN(4, 4, units.adjacency(3, V).repeat(3, 1, 1, 1), att=True),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_structures(case):
    """Ours by another name: test_nn_units_* hold them to transcriptions, here they are to be recognised."""
    model = holder(OTHERS[case]())
    known = type(model.unit)
    model.unit.__class__ = type("Theirs", (known,), {})
    if "and attention" in case:
        model.unit.aha.layers = [members.nonzero().flatten().tolist() for members in model.unit.aha.members]
        disturb(model)  # PA has no zeros any more
    kept = dict(model.named_parameters())
    done = patch(model)
    assert type(model.unit) is known, str(done)
    now = dict(model.named_parameters())
    assert list(now) == list(kept) and all(now[name] is kept[name] for name in kept)


def test_dropout_goes_along():
    model = holder(Scales(4, 8, dropout=0.3))
    drop = model.unit.mlp.layers[0]
    patch(model)
    assert type(model.unit) is ours.MSGCN and model.unit.mlp.layers[0] is drop and drop.p == 0.3


def test_a_model_trains_on():
    model = disturb(Model())
    other = copy.deepcopy(model)
    optimisers = [torch.optim.SGD(each.parameters(), lr=1e-3, momentum=0.9) for each in (model, other)]
    x = torch.randn(4, 3, 6, V)
    done = None
    for epoch in range(4):
        if epoch == 1:
            done = patch(model)
            assert [row.name for row in done.rows] == ["blocks.0.gcn", "blocks.1.gcn", "blocks.2.gcn"]
            assert all(type(block.gcn) is ours.ConvTemporalGraphical for block in model.blocks)
        if epoch == 2:  # checkpoints go both ways
            states = [(each.state_dict(), o.state_dict()) for each, o in zip((model, other), optimisers, strict=True)]
            states = copy.deepcopy(states)
            model.load_state_dict(states[1][0]), other.load_state_dict(states[0][0])
            optimisers[0].load_state_dict(states[1][1]), optimisers[1].load_state_dict(states[0][1])
        if epoch == 3:
            done.undo()
            assert all(type(block.gcn) is GraphConvolution for block in model.blocks)
        for each, optimiser in zip((model, other), optimisers, strict=True):
            step(each, (x,))
            optimiser.step()
        torch.testing.assert_close(dict(model.state_dict()), dict(other.state_dict()), rtol=1e-3, atol=1e-4)


def test_again_it_does_nothing():
    model = Model()
    done = patch(model)
    assert len(done.rows) == 3 and str(done).count("\n") == 2
    assert "blocks.0.gcn (GraphConvolution) -> ConvTemporalGraphical (largest relative difference " in str(done)
    kept = dict(model.named_modules())
    again = patch(model)
    assert not again.rows and str(again) == "patch: nothing in the model is known to asma_kernels"
    assert dict(model.named_modules()) == kept
    done.undo()
    done.undo()
    assert type(model.blocks[0].gcn) is GraphConvolution


class Louder(GraphConvolution):
    def forward(self, x, A):
        h, A = super().forward(x, A)
        return h * 1.001, A


class Dropping(Pyskl):
    def __init__(self):
        super().__init__(4, 4)
        self.drop = nn.Dropout(0.1)

    def forward(self, x, A=None):
        return self.drop(super().forward(x))


class DroppingPaths(Pyskl):
    def __init__(self, draw):
        super().__init__(4, 4)
        self.draw = draw

    def forward(self, x, A=None):
        return super().forward(x) * (float(self.draw()) > -1)


class Masked(Refined):
    def forward(self, x, mask=None):
        return super().forward(x if mask is None else x * mask)


class Wide(Pyskl):
    def __init__(self):
        super().__init__(4, 4)
        self.register_buffer("_extra", torch.ones(1))


class Narrow(Refined):
    def forward(self, x):
        return super().forward(x)[:, :4]


class Failing(GraphConvolution):
    def forward(self, x, A):
        raise OSError("no file of that name\nindeed")


LEFT = {
    "it computes something else (relative difference 1.0e-03)": lambda: Louder(3, 4, 3),
    "PysklGCN has no part like drop (Dropout)": Dropping,
    "it draws random numbers, which cannot be compared": lambda: DroppingPaths(lambda: torch.rand(())),
    "its forward takes the features, mask, that of CTRGCN takes the features": lambda: Masked(16, 8),
    "it gives [(3, 4, 6, 17)], CTRGCN gives [(3, 8, 6, 17)]": lambda: Narrow(16, 8),
    "it cannot be compared (OSError: no file of that name)": lambda: Failing(3, 4, 3),
}


@pytest.mark.parametrize("why", LEFT)
def test_what_is_left_and_why(why):
    model = holder(LEFT[why]())
    unit = model.unit
    done = patch(model)
    assert model.unit is unit
    assert (done.rows[0].why, done.rows[0].replacement) == (why, "")
    assert str(done).splitlines()[0] == f"unit ({type(unit).__name__}) left: {why}"


@pytest.mark.parametrize("draw", [lambda: random.random(), lambda: np.random.rand()])
def test_other_random_numbers(draw):
    assert "draws random numbers" in patch(holder(DroppingPaths(draw))).rows[0].why


def test_what_is_unknown():
    for unit in (Wide(), nn.Conv2d(3, 4, 1), nn.Sequential(nn.Linear(3, 4)), nn.Identity()):
        assert not patch(holder(unit)).rows


def test_inside_what_is_left():
    class Odd(Refined):
        def forward(self, x):
            return super().forward(x) + 1

    model = holder(Odd(16, 8))
    done = patch(model)
    assert [row.replacement for row in done.rows] == ["", "CTRGC", "CTRGC", "CTRGC"]
    assert type(model.unit) is Odd and type(model.unit.convs[1]) is ours.CTRGC


def test_the_model_itself():
    done = patch(GraphConvolution(3, 4, 3))
    assert str(done) == "the model itself (GraphConvolution) left: it can only be replaced inside of another module"


def hooked(unit):
    unit.conv.register_forward_hook(lambda *_: None)


def overridden(unit):
    unit.forward = lambda x, A: (x, A)


def pruned(unit):
    prune.l1_unstructured(unit.conv, "weight", 0.5)


def quantised(unit):
    unit.conv = torch.ao.nn.quantized.Conv2d(3, 12, 1)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (hooked, "it has hooks (conv), which nobody would call any more"),
        (lambda unit: unit.register_forward_pre_hook(print), "it has hooks, which nobody would call any more"),
        (overridden, "forward was replaced on the object, or the object compiled by itself"),
        (
            lambda unit: unit.compile(backend="eager"),
            "forward was replaced on the object, or the object compiled by itself",
        ),
        (pruned, "it has hooks (conv), which nobody would call any more"),
        (quantised, None),
        (lambda unit: nn.utils.parametrizations.weight_norm(unit.conv), "it has hooks (conv)"),
    ],
)
def test_what_hangs_on_a_module(change, why):
    unit = GraphConvolution(3, 4, 3)
    change(unit)
    model = holder(unit)
    done = patch(model)
    assert model.unit is unit
    assert (why in done.rows[0].why) if why else not done.rows, str(done)


def test_shared_modules():
    shared = GraphConvolution(3, 3, 3)
    model = holder(nn.ModuleList([shared, nn.ModuleDict({"again": shared})]))
    model.third = shared
    done = patch(model)
    replaced = model.third
    assert type(replaced) is ours.ConvTemporalGraphical and len(done.rows) == 1 and done.rows[0].name == "unit.0"
    assert model.unit[0] is replaced and model.unit[1]["again"] is replaced
    done.undo()
    assert model.third is shared and model.unit[0] is shared and model.unit[1]["again"] is shared


def test_modes_types_and_frozen_parts_stay():
    model = holder(Pyskl(4, 6, "offset")).eval().to(torch.bfloat16)
    model.unit.bn.requires_grad_(False)
    model.unit.bn.train()
    bn, conv = model.unit.bn, model.unit.conv
    model.unit.PA.requires_grad_(False)
    done = patch(model)
    unit = model.unit
    assert type(unit) is ours.PysklGCN and unit.bn is bn and unit.conv is conv
    assert not unit.training and bn.training and not bn.weight.requires_grad and not unit.PA.requires_grad
    assert {tensor.dtype for tensor in model.state_dict().values() if tensor.is_floating_point()} == {torch.bfloat16}
    assert unit(torch.randn(2, 4, 5, V, dtype=torch.bfloat16)).dtype == torch.bfloat16
    model.to(torch.float64).train()
    bn.eval()
    done.undo()
    assert model.unit.training and not bn.training and model.unit.A.dtype == torch.float64
    assert model.unit(torch.randn(2, 4, 5, V, dtype=torch.float64)).dtype == torch.float64


def test_undo_leaves_what_was_put_there_later():
    model = Model()
    done = patch(model)
    model.blocks[1].gcn = later = nn.Identity()
    done.undo()
    assert model.blocks[1].gcn is later and type(model.blocks[0].gcn) is GraphConvolution


def test_nothing_else_changes():
    model = holder(Refined(16, 8))
    x = torch.randn(2, 16, 5, V)
    step(model.unit, (x,))
    model.unit.left_behind = model.unit(x)
    state, gradients = copy.deepcopy(model.state_dict()), {n: p.grad.clone() for n, p in model.named_parameters()}
    drawn = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        done = patch(model)
    assert done.rows[0].replacement == "CTRGCN"
    assert torch.equal(drawn[0], torch.get_rng_state()) and drawn[1] == random.getstate()
    assert (drawn[2] == np.random.get_state()[1]).all()
    torch.testing.assert_close(dict(model.state_dict()), dict(state), rtol=0, atol=0)
    torch.testing.assert_close({n: p.grad for n, p in model.named_parameters()}, gradients, rtol=0, atol=0)
    assert not any(parameter.is_inference() for parameter in model.parameters())
    step(model.unit, (x,))


class OnGPU(Adaptive):
    def forward(self, x):
        self.A = self.A.cuda(x.get_device())
        return super().forward(x.cuda()) * torch.ones(1, device="cuda").float().double().to(x.dtype)


class Single(Refined):
    """As if it were written for float32 alone."""

    def forward(self, x):
        if x.dtype != torch.float32:
            raise RuntimeError("expected scalar type Float but found Double")
        return super().forward(x)


def test_calls_of_a_gpu_and_of_float32():
    model = nn.ModuleList([OnGPU(4, 8), Single(16, 8)])
    cuda = torch.Tensor.cuda
    done = patch(model)
    assert [row.replacement for row in done.rows] == ["AGCN", "CTRGCN"], str(done)
    assert done.rows[0].difference < 1e-10 and 1e-10 < done.rows[1].difference < 1e-4
    assert torch.Tensor.cuda is cuda


def test_wrappers():
    x = torch.randn(2, 3, 6, V)
    model = disturb(Model())
    other = copy.deepcopy(model)
    parallel = nn.DataParallel(model)
    assert [row.name for row in patch(parallel).rows] == [f"module.blocks.{place}.gcn" for place in range(3)]
    check_equal(other, parallel.module, (x,))
    compiled = torch.compile(copy.deepcopy(other), backend="eager")
    wanted = compiled(x)
    assert [row.name for row in patch(compiled).rows][0] == "_orig_mod.blocks.0.gcn"
    assert all(type(block.gcn) is ours.ConvTemporalGraphical for block in compiled._orig_mod.blocks)
    called = []
    compiled._orig_mod.blocks[0].gcn.register_forward_hook(lambda *_: called.append(1))
    torch.testing.assert_close(compiled(x), wanted, rtol=1e-4, atol=1e-4)
    assert called
