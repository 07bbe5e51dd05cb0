"""The structures that :func:`asma_kernels.patch` knows: how to tell one, how to build ours, on what to compare them.

A structure is told by the names of its parameters, buffers and of the children that hold some; what these leave open
(a residual or none, which side) is tried: every build that could be it is listed, and the comparison chooses.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from . import _unit
from .agcn import AAGCN, AGCN, PysklAAGCN
from .ctrgcn import CTRGC, CTRGCN, PysklCTRGC, PysklCTRGCN
from .decouple_gcn import DecoupleGCN
from .dggcn import DGGCN, ProtoGCN
from .hdgcn import HDGCN
from .hyper_gcn import HyperGCN
from .infogcn import SAGC
from .msg3d import MSG3D, MSGCN, STMSGCN
from .pyskl_gcn import PysklGCN
from .stgcn import ConvTemporalGraphical

Build = Callable[[], nn.Module]
N, T = 3, 6  # clips and frames of the comparison


class Structure(NamedTuple):
    """One structure."""

    builds: Callable[[Any], Sequence[Build]]
    """What the module could be, none where it is of another structure. May raise where an attribute is missing: that is
    none, too."""
    inputs: Callable[[Any], tuple[Any, ...]]
    """Random float64 arguments of forward, for one of ours."""


def recognised(module: nn.Module) -> tuple[Structure, Sequence[Build]] | None:
    """The first structure that the module could be, and our modules for it."""
    for structure in STRUCTURES:
        try:
            builds = structure.builds(module)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            continue
        if builds:
            return structure, builds
    return None


def _is(module: nn.Module, own: str, children: str, perhaps: str = "") -> bool:
    """It has these parameters and buffers of its own, and these children hold some; ``perhaps`` may be there."""
    named = {
        name for kind in (module._parameters, module._buffers) for name, value in kind.items() if value is not None
    }
    named |= {name for name, child in module.named_children() if child.state_dict()}
    wanted = {*own.split(), *children.split()}
    return wanted <= named <= wanted | set(perhaps.split())


def takes(module: nn.Module) -> list[inspect.Parameter]:
    """The arguments of its forward."""
    return list(inspect.signature(module.forward).parameters.values())


def _conv(module: Any) -> nn.Conv2d:
    if not isinstance(module, nn.Conv2d):
        raise TypeError
    return module


def _shortcuts(module: nn.Module, C: int, D: int) -> tuple[bool, ...]:
    """With a residual, or without one; where the channels agree it has no parameters that would tell."""
    if "down" in dict(module.named_children()):
        return (True,)
    return (True, False) if C == D else (False,)


def _features(module: Any) -> tuple[Any, ...]:
    return (_random(N, module.in_channels, T, _joints(module)),)


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, device="cpu")


def _joints(module: nn.Module) -> int:
    names = ("A", "PA", "DecoupleA", "shared_topology")
    return next(cast(torch.Tensor, getattr(module, name)).shape[-1] for name in names if hasattr(module, name))


def _conv_temporal_graphical(module: Any) -> Sequence[Build]:
    conv, K = _conv(module.conv), module.kernel_size
    if not (_is(module, "", "conv") and isinstance(K, int) and len(takes(module)) >= 2):
        return ()
    if conv.kernel_size[1] != 1 or conv.out_channels % K or conv.groups != 1:
        return ()
    sizes: Any = {f"t_{name}": getattr(conv, name)[0] for name in ("kernel_size", "stride", "padding", "dilation")}
    C, D = conv.in_channels, conv.out_channels // K
    return [partial(ConvTemporalGraphical, C, D, K, **sizes, bias=conv.bias is not None)]


def _features_and_graph(module: Any) -> tuple[Any, ...]:
    A = torch.rand(module.kernel_size, 17, 17, dtype=torch.float64, device="cpu")
    return _random(N, module.conv.in_channels, T, 17), A * (A > 0.5)


def _pyskl_gcn(module: Any) -> Sequence[Build]:
    if not _is(module, "A", "conv bn", "PA down"):
        return ()
    conv, A, D = _conv(module.conv), module.A, module.bn.num_features
    K = len(A)
    adaptive = ("importance", "offset") if hasattr(module, "PA") else ("init" if "A" in module._parameters else None,)
    shapes = {"pre": (conv.in_channels, conv.out_channels / K), "post": (conv.in_channels / K, conv.out_channels)}
    return [
        partial(PysklGCN, int(C), D, A, how, order, residual)
        for order, (C, out) in shapes.items() if out == D and int(C) == C
        for how, residual in product(adaptive, _shortcuts(module, int(C), D))
    ]  # fmt: skip


def _agcn(module: Any) -> Sequence[Build]:
    conv, embedding = _conv(module.conv_d[0]), _conv(module.conv_a[0])
    if not _is(module, "PA", "conv_a conv_b conv_d bn", "A down") or module.A.shape != module.PA.shape:
        return ()
    C, D = conv.in_channels, conv.out_channels
    return [partial(AGCN, C, D, module.A, D // embedding.out_channels, len(module.A))]


def _aagcn(module: Any) -> Sequence[Build]:
    conv, attention = _conv(module.conv_d[0]), hasattr(module, "fc1c")
    parts = "conv_d bn" + " conv_ta conv_sa fc1c fc2c" * attention
    C, D = conv.in_channels, conv.out_channels
    if _is(module, "A", parts, "down") and "A" in module._buffers:
        return [partial(PysklAAGCN, C, D, module.A, adaptive=False, attention=attention)]
    reduction = D // _conv(module.conv_a[0]).out_channels
    if _is(module, "A alpha", f"{parts} conv_a conv_b", "down"):
        return [partial(PysklAAGCN, C, D, module.A, reduction, attention=attention)]
    if _is(module, "PA alpha", f"{parts} conv_a conv_b", "down"):
        return [partial(AAGCN, C, D, module.PA, reduction, len(module.PA), attention=attention)]
    return ()


def _ctrgc(module: Any) -> Sequence[Build]:
    if not _is(module, "", "conv1 conv2 conv3 conv4"):
        return ()
    conv = _conv(module.conv3)
    return [partial(unit, conv.in_channels, conv.out_channels) for unit in (CTRGC, PysklCTRGC)]


def _features_a_graph_and_its_weight(module: Any) -> tuple[Any, ...]:
    return _random(N, module.in_channels, T, 17), _random(17, 17), _random(1)


def _ctrgcn(module: Any) -> Sequence[Build]:
    if not all(_is(part, "", "conv1 conv2 conv3 conv4") for part in module.convs):
        return ()
    conv = _conv(module.convs[0].conv3)
    C, D = conv.in_channels, conv.out_channels
    own = [partial(CTRGCN, C, D, residual=residual) for residual in _shortcuts(module, C, D)]
    if _is(module, "PA alpha", "convs bn", "down"):
        return [partial(build, A=module.PA) for build in own]
    if _is(module, "A alpha", "convs bn", "down") and "A" in module._parameters:
        return [partial(PysklCTRGCN, C, D, module.A)]
    if _is(module, "alpha", "convs bn", "down A") and not module.A.requires_grad:
        return [partial(build, A=module.A, adaptive=False) for build in own]
    return ()


def _multi_scale(module: Any) -> tuple[torch.Tensor, torch.Tensor | None, nn.Conv2d]:
    """Graphs (K, V, V), sources first, what is learned of them, and the convolution of MS-G3D's MS-GCN or its G3D."""
    A = module.A_powers if hasattr(module, "A_powers") else module.A_scales
    convs = [layer for layer in module.mlp.layers if isinstance(layer, nn.Conv2d)]
    if len(convs) != 1 or not _is(module, "", "mlp", "A_powers A_scales A_res residual"):
        raise TypeError
    learned = module._parameters.get("A_res")
    return A.detach().unflatten(0, (-1, A.shape[-1])).transpose(1, 2), learned, convs[0]


def _msgcn(module: Any) -> Sequence[Build]:
    if not hasattr(module, "A_powers"):
        return ()
    A, learned, conv = _multi_scale(module)

    def build() -> nn.Module:
        K, V, _ = A.shape
        ours = MSGCN(
            K, conv.in_channels // K, conv.out_channels, torch.zeros(V, V), True, learned is not None, _drop(module)
        )
        return _with_graph(ours, A)

    return [build]


def _st_msgcn(module: Any) -> Sequence[Build]:
    if not hasattr(module, "A_scales"):
        return ()
    A, learned, conv = _multi_scale(module)
    C, D = conv.in_channels // len(A), conv.out_channels
    residuals = (True,) if "residual" in dict(module.named_children()) else (False, True) if C == D else (False,)

    def build(residual: bool) -> nn.Module:
        empty = torch.zeros(A.shape[1:])
        ours = STMSGCN(C, D, empty, len(A), 1, True, learned is not None, residual, _drop(module))
        return _with_graph(ours, A)

    return [partial(build, residual) for residual in residuals]


def _drop(module: Any) -> float:
    """A dropout that is there: its number is taken over with the layer."""
    return 0.5 if isinstance(module.mlp.layers[0], nn.Dropout) else 0.0


def _with_graph(ours: MSGCN | STMSGCN, A: torch.Tensor) -> nn.Module:
    ours.A.copy_(A)
    if ours.A_res is None:
        _unit.look_again(ours)
    return ours


def _msg3d(module: Any) -> Sequence[Build]:
    windows, unit = module.gcn3d
    if not _is(module, "", "gcn3d out_conv out_bn", "in1x1") or module.out_conv.kernel_size[1] != module.window_size:
        return ()
    inner = _st_msgcn(unit)
    _, _, conv = _multi_scale(unit)
    into, out, D = conv.in_channels // unit.num_scales, conv.out_channels, module.out_conv.out_channels
    V = unit.A_scales.shape[1] // module.window_size
    frames = (windows.window_size, windows.window_stride, windows.window_dilation)
    embeds = bool(module.in1x1.state_dict())
    C = module.in1x1.layers[0].in_channels if embeds else into
    if out != (into if embeds or C != 3 else D) or (embeds and D % into):
        return ()

    def build(middle: Build) -> nn.Module:
        ours = MSG3D(C, D, torch.zeros(V, V), unit.num_scales, *frames, D // into if embeds else 1)
        ours.gcn3d[1] = middle()
        return ours

    return [partial(build, middle) for middle in inner]


def _clip(module: MSG3D) -> tuple[Any, ...]:
    unit = cast(STMSGCN, module.gcn3d[1])
    C = next((part.in_channels for part in module.in1x1.modules() if isinstance(part, nn.Conv2d)), unit.in_channels)
    return (_random(N, C, T, unit.A.shape[-1] // module.window_size),)


def _decouple_gcn(module: Any) -> Sequence[Build]:
    if not _is(module, "DecoupleA Linear_weight Linear_bias eyes", "bn0 bn", "down"):
        return ()
    K, groups, V, _ = module.DecoupleA.shape
    C, D = len(module.Linear_weight), module.bn.num_features
    if module.eyes.requires_grad or not module.eyes.equal(torch.eye(V).to(module.eyes).expand(D, V, V)):
        return ()
    return [partial(DecoupleGCN, C, D, module.DecoupleA[:, 0], groups, V, num_subset=K)]


def _dynamic_groups(module: Any) -> Sequence[Build]:
    if not _is(module, "A alpha beta", "pre post bn", "conv1 conv2 down"):
        return ()
    conv, K, D = _conv(module.pre[0]), len(module.A), module.post.out_channels
    shape = (conv.in_channels, D, module.A, (conv.out_channels // K + 0.5) / D)
    if hasattr(module, "intra_act"):
        return [partial(ProtoGCN, *shape, module.intra_act, module.inter_act)]
    chosen = {name: getattr(module, name) for name in ("ctr", "ada", "subset_wise", "ada_act", "ctr_act")}
    return [partial(DGGCN, *shape, **chosen)]


def _sagc(module: Any) -> Sequence[Build]:
    if not _is(module, "shared_topology", "conv_d attn bn", "down") or not _is(module.attn, "", "to_qk ln"):
        return ()
    conv, K = _conv(module.conv_d[0]), len(module.shared_topology)
    if module.attn.to_qk.out_features != conv.in_channels // 8 * 2 * K:
        return ()
    return [partial(SAGC, conv.in_channels, conv.out_channels, module.shared_topology)]


def _hdgcn(module: Any) -> Sequence[Build]:
    if not _is(module, "PA", "conv_down conv bn", "conv_d aha down"):
        return ()
    L, S, V, _ = module.PA.shape
    C, D = _conv(module.conv_down[0][0]).in_channels, module.bn.num_features
    layers: Sequence[Sequence[int]] = module.aha.layers if "aha" in module._modules else ()

    def build(residual: bool) -> nn.Module:
        # Which joints a layer has is no longer to be seen in a trained PA.
        ours = HDGCN(C, D, torch.eye(V).repeat(L, S, 1, 1), residual=residual, att=bool(layers))
        if ours.aha is not None:
            ours.aha.members.copy_(torch.stack([_counts(layer, V) for layer in layers]))
        return ours

    return [partial(build, residual) for residual in _shortcuts(module, C, D)]


def _counts(joints: Sequence[int], V: int) -> torch.Tensor:
    return torch.bincount(torch.tensor(joints) % V, minlength=V)


def _hyper_gcn(module: Any) -> Sequence[Build]:
    if not _is(module, "PA edge_importance hyper_joint alpha", "to_V to_W conv_d bn", "down"):
        return ()
    conv, (K, joints, _), virtual = _conv(module.conv_d), module.PA.shape, len(module.hyper_joint)
    C, reduction = conv.in_channels, conv.in_channels // module.to_V.out_channels
    return [partial(HyperGCN, C, conv.out_channels, joints - virtual, virtual, module.PA, True, K, reduction)]


def _bodies(module: HyperGCN) -> tuple[Any, ...]:
    return (_random(N, module.in_channels, T, module.vertex_nums),)


STRUCTURES = (
    Structure(_conv_temporal_graphical, _features_and_graph),
    Structure(_pyskl_gcn, _features),
    Structure(_agcn, _features),
    Structure(_aagcn, _features),
    Structure(_ctrgcn, _features),
    Structure(_ctrgc, _features_a_graph_and_its_weight),
    Structure(_msgcn, _features),
    Structure(_msg3d, _clip),
    Structure(_st_msgcn, _features),
    Structure(_decouple_gcn, _features),
    Structure(_dynamic_groups, _features),
    Structure(_sagc, _features),
    Structure(_hdgcn, _features),
    Structure(_hyper_gcn, _bodies),
)
