"""Convolutions over frames: against our own transcription in float64, and by the originals' parameter names."""

import pytest
import torch
from cases import layouts
from torch.nn import functional

from asma_kernels.nn import DGMSTCN, MSTCN, MSG3DTemporalConv, MultiScaleTemporalConv, UnitTCN

JOINTS = (15, 17, 18, 20, 25)


def over_frames(x, weight, bias, stride=1, dilation=1, replicate=False):
    """A convolution over frames, tap by tap."""
    taps = weight.shape[2]
    pad = dilation * (taps - 1) // 2
    index = torch.arange(-pad, x.shape[2] + pad)
    long = x[:, :, index.clamp(0, x.shape[2] - 1)]
    if not replicate:
        long = torch.where(((index >= 0) & (index < x.shape[2]))[:, None], long, 0)
    count = (len(index) - dilation * (taps - 1) - 1) // stride + 1
    out = bias[None, :, None, None]
    for tap in range(taps):
        seen = long[:, :, tap * dilation :][:, :, : (count - 1) * stride + 1 : stride]
        out = out + torch.einsum("nctv,dc->ndtv", seen, weight[:, :, tap, 0])
    return out


def norm(x, state, name, training):
    if training:
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    else:
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    scale = state[f"{name}.weight"] / (variance + 1e-5).sqrt()
    return (x - mean[:, None, None]) * scale[:, None, None] + state[f"{name}.bias"][:, None, None]


def highest(x, stride):
    """Of each frame and its two neighbours."""
    least = torch.full_like(x[:, :, :1], -torch.inf)
    three = torch.stack([torch.cat([least, x[:, :, :-1]], 2), x, torch.cat([x[:, :, 1:], least], 2)])
    return three.amax(0)[:, :, ::stride]


def pointwise(x, state, name, stride=1):
    return over_frames(x, state[f"{name}.weight"], state[f"{name}.bias"], stride)


def multi_scale(x, state, training, stride, dilations, residual, act=torch.relu, last=None, replicate=False):
    outs = []
    for i in range(len(dilations) + 2):
        name = f"branches.{i}"
        if i == len(dilations) + 1:
            outs.append(norm(pointwise(x, state, f"{name}.0", stride), state, f"{name}.1", training))
            continue
        h = act(norm(pointwise(x, state, f"{name}.0"), state, f"{name}.1", training))
        if i == len(dilations):
            outs.append(norm(highest(h, stride), state, f"{name}.4", training))
            continue
        weight, bias = state[f"{name}.3.conv.weight"], state[f"{name}.3.conv.bias"]
        outs.append(
            norm(over_frames(h, weight, bias, stride, dilations[i], replicate), state, f"{name}.3.bn", training)
        )
    out = torch.cat(outs, 1)
    if residual and "residual.conv.weight" in state:
        weight, bias = state["residual.conv.weight"], state["residual.conv.bias"]
        out = out + norm(over_frames(x, weight, bias, stride, 1, replicate), state, "residual.bn", training)
    elif residual:
        out = out + x
    return last(out) if last else out


def mstcn(x, state, training, stride, config):
    V = x.shape[3]
    dynamic = "add_coeff" in state
    if dynamic:
        x = torch.cat([x, x.mean(3, keepdim=True)], 3)
    outs = []
    for i, branch in enumerate(config):
        name = f"branches.{i}"
        if branch == "1x1":
            outs.append(pointwise(x, state, name, stride))
            continue
        h = torch.relu(norm(pointwise(x, state, f"{name}.0"), state, f"{name}.1", training))
        if branch[0] == "max":
            outs.append(highest(h, stride))
        else:
            weight, bias = state[f"{name}.3.conv.weight"], state[f"{name}.3.conv.bias"]
            outs.append(over_frames(h, weight, bias, stride, branch[1]))
    out = torch.cat(outs, 1)
    if dynamic:
        out = out[..., :V] + torch.einsum("nct,v->nctv", out[..., V], state["add_coeff"][:V])
    out = pointwise(torch.relu(norm(out, state, "transform.0", training)), state, "transform.2")
    return norm(out, state, "bn", training)


def check(module, transcription, x):
    """Numbers and gradients in training and in evaluation; the running statistics too are the module's to keep."""
    module = module.double()
    for name, parameter in module.named_parameters():
        torch.nn.init.normal_(parameter, 0.5 if name.endswith("bn.weight") else 0.1, 0.4)
    for training in (True, False):
        module.train(training)
        state = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        names = [name for name, _ in module.named_parameters()]
        leaves = [x.detach().clone().requires_grad_(), *(state[name].requires_grad_() for name in names)]
        ours_x = x.detach().requires_grad_()
        ours, theirs = module(ours_x), transcription(leaves[0], state, training)
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
        weight = torch.linspace(-1, 2, ours.numel(), dtype=torch.float64).view_as(ours)
        found = torch.autograd.grad(ours, [ours_x, *module.parameters()], weight)
        expected = torch.autograd.grad(theirs, leaves, weight)
        for name, ours_grad, their_grad in zip(["x", *names], found, expected, strict=True):
            torch.testing.assert_close(ours_grad, their_grad, rtol=1e-7, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")


def clips(N=2, C=12, T=11, V=25):
    return torch.randn(N, C, T, V, dtype=torch.float64, generator=torch.Generator().manual_seed(V))


@pytest.mark.parametrize("V", JOINTS)
@pytest.mark.parametrize("stride", [1, 2])
def test_unit_tcn(V, stride):
    for padding in ("zeros", "replicate"):
        module = UnitTCN(12, 8, 5, stride, dilation=2, padding_mode=padding)

        def formula(x, state, training, padding=padding):
            out = over_frames(x, state["conv.weight"], state["conv.bias"], stride, 2, padding == "replicate")
            return norm(out, state, "bn", training)

        check(module, formula, clips(N=1, V=V))


@pytest.mark.parametrize("V", JOINTS)
@pytest.mark.parametrize(("stride", "D", "residual"), [(1, 12, True), (2, 12, True), (1, 17, True), (2, 14, False)])
def test_multi_scale(V, stride, D, residual):
    replicate = V == 17
    module = MultiScaleTemporalConv(
        12, D, 5, stride, [1, 2], residual, padding_mode="replicate" if replicate else "zeros"
    )
    check(
        module,
        lambda x, state, training: multi_scale(x, state, training, stride, [1, 2], residual, replicate=replicate),
        clips(N=1 if V == 20 else 2, V=V),
    )


@pytest.mark.parametrize("activation", ["relu", "leakyrelu", "tanh", "linear"])
@pytest.mark.parametrize("V", [18, 25])
def test_msg3d(activation, V):
    act = {
        "relu": torch.relu,
        "leakyrelu": lambda x: functional.leaky_relu(x, 0.2),
        "tanh": torch.tanh,
        "linear": lambda x: x,
    }[activation]
    module = MSG3DTemporalConv(12, 18, [3, 5], 2, [1, 3], residual_kernel_size=3, activation=activation)
    check(module, lambda x, s, t: multi_scale(x, s, t, 2, [1, 3], True, act, act), clips(V=V))


CONFIGS = [((3, 1), (3, 2), (3, 3), (3, 4), ("max", 3), "1x1"), ((5, 1), ("max", 3), "1x1"), (("max", 3), (3, 3))]


@pytest.mark.parametrize("V", JOINTS)
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("kind", [MSTCN, DGMSTCN])
def test_mstcn(kind, config, V):
    stride, mid = 1 + V % 2, None if V > 17 else 0.25
    module = kind(12, 16, mid, ms_cfg=list(config), stride=stride)
    check(module, lambda x, state, training: mstcn(x, state, training, stride, config), clips(N=1 + V % 2, V=V))


def test_names_and_shapes_are_those_of_the_originals():
    def shapes(module):
        return {name: tuple(tensor.shape) for name, tensor in module.named_parameters()}

    assert shapes(UnitTCN(3, 4, 9)) == {
        "conv.weight": (4, 3, 9, 1),
        "conv.bias": (4,),
        "bn.weight": (4,),
        "bn.bias": (4,),
    }
    found = shapes(MultiScaleTemporalConv(8, 16, 5, 2, [1, 2]))
    assert found["branches.1.3.conv.weight"] == (4, 4, 5, 1) and found["branches.2.4.weight"] == (4,)
    assert found["branches.3.0.weight"] == (4, 8, 1, 1) and found["residual.conv.weight"] == (16, 8, 1, 1)
    assert len(found) == 2 * 8 + 6 + 4 + 4
    assert "residual.conv.weight" not in shapes(MultiScaleTemporalConv(8, 8, 3, 1, [1, 2]))
    found = shapes(DGMSTCN(8, 16, num_joints=17))
    assert found["branches.0.0.weight"] == (6, 8, 1, 1) and found["branches.5.weight"] == (2, 8, 1, 1)
    assert found["transform.2.weight"] == (16, 16, 1, 1) and found["add_coeff"] == (17,)
    assert set(found) - {"add_coeff"} == set(shapes(MSTCN(8, 16)))


def test_state_dicts_with_hdgcn_s_bias_load():
    module = MultiScaleTemporalConv(8, 16, 5, 2, [1, 2])
    state = dict(module.state_dict())
    theirs = {}
    for name, tensor in state.items():
        by_hand = name.endswith("3.conv.bias") or name == "residual.conv.bias"
        theirs[name.replace("conv.bias", "bias") if by_hand else name] = tensor.view(1, -1, 1, 1) if by_hand else tensor
    assert set(theirs) != set(state)
    other = MultiScaleTemporalConv(8, 16, 5, 2, [1, 2])
    other.load_state_dict(theirs)
    assert all(torch.equal(other.state_dict()[name], tensor) for name, tensor in state.items())


def test_initialisation():
    torch.manual_seed(0)
    module = MultiScaleTemporalConv(64, 64)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            assert parameter.abs().max() == 0
        elif parameter.dim() == 1:  # a norm's
            assert 0.9 < parameter.mean() < 1.1 and parameter.std() > 0
    unit = UnitTCN(64, 64)
    unit.init_weights()
    assert unit.conv.bias.abs().max() == 0 and (unit.bn.weight == 1).all()
    assert unit.conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
    UnitTCN(4, 4, norm=None).init_weights()
    assert DGMSTCN(8, 16).init_weights() is None


def test_dropout_only_in_training():
    x = torch.ones(2, 8, 6, 17)
    for module in (MSTCN(8, 16, dropout=0.5), MSG3DTemporalConv(8, 16, dilations=[1, 2], tcn_dropout=0.5)):
        assert (module(x) == 0).float().mean() > 0.3
        module.eval()
        assert torch.equal(module(x), module(x))
    assert (UnitTCN(8, 16, dropout=0.5)(x) == 0).float().mean() > 0.3


def test_layouts_and_no_clips():
    module = DGMSTCN(8, 16, stride=2).double().eval()
    x = clips(C=8, V=20)
    for turned in layouts(x).values():
        torch.testing.assert_close(module(turned), module(x))
    assert module(x[:0]).shape == (0, 16, 6, 20)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UnitTCN(4, 4, norm="LN"), "UnitTCN: norm must be 'BN' or None, got 'LN'"),
        (lambda: UnitTCN(4, 4, padding_mode="circular"), "UnitTCN: padding_mode must be one of zeros, replicate"),
        (lambda: MultiScaleTemporalConv(4, 16, [3, 3]), "MultiScaleTemporalConv: kernel_size must be one number or"),
        (lambda: MultiScaleTemporalConv(4, 16, 4), "MultiScaleTemporalConv: a branch must have an odd number of taps"),
        (lambda: MultiScaleTemporalConv(4, 16, residual_kernel_size=2), "an odd number of taps, so that branches fit"),
        (lambda: MultiScaleTemporalConv(4, 5), "out_channels must be at least one a branch, got 5 for 6 branches"),
        (lambda: MultiScaleTemporalConv(4, 16, padding_mode="reflect"), "MultiScaleTemporalConv: padding_mode must"),
        (lambda: MSG3DTemporalConv(4, 16, activation="gelu"), "MSG3DTemporalConv: activation must be one of relu,"),
        (lambda: MSTCN(4, 16, ms_cfg=[("max", 5)]), r"MSTCN: a branch must be \(taps, dilation\), \('max', 3\) or"),
        (lambda: MSTCN(4, 16, ms_cfg=["3x3"]), "MSTCN: a branch must be"),
        (lambda: MSTCN(4, 16, ms_cfg=[(3, 1, 1)]), "MSTCN: a branch must be"),
        (lambda: MSTCN(4, 16, ms_cfg=[]), "MSTCN: out_channels must be at least one a branch, got 16 for 0 branches"),
        (lambda: MSTCN(4, 16, 0.01), "MSTCN: mid_channels must leave a branch a channel, got 0.01 of 16"),
        (lambda: DGMSTCN(4, 16, ms_cfg=[(2, 1)]), "DGMSTCN: a branch must have an odd number of taps"),
        (
            lambda: DGMSTCN(4, 16, num_joints=17)(torch.ones(1, 4, 5, 18)),
            "DGMSTCN: x must have at most num_joints = 17 joints, got 18",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
