"""What the tests of the drop-in units share: small pieces of plain PyTorch to write them down again, and the check."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

Written = Callable[[torch.Tensor, dict[str, torch.Tensor], bool], Any]

SIZES = [(2, 15), (1, 17), (2, 18), (1, 20), (2, 25)]  # N, V
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def adjacency(K: int, V: int) -> torch.Tensor:
    """About a third nonzero, every joint joined with itself in the first partition."""
    A = torch.rand(K, V, V) * (torch.rand(K, V, V) < 0.35)
    A[0] += torch.eye(V)
    return A


def binary(V: int) -> torch.Tensor:
    """Ones between neighbours of a tree, zeros elsewhere."""
    A = torch.zeros(V, V)
    for joint in range(1, V):
        A[joint, (joint - 1) // 2] = A[(joint - 1) // 2, joint] = 1
    return A


def names(**parts: str) -> set[str]:
    """State-dict names: module=kind with the kinds conv (weight, bias), norm, weight and own (a parameter itself)."""
    of = {"conv": ("weight", "bias"), "norm": NORM, "weight": ("weight",), "own": ()}
    listed = set()
    for module, kind in parts.items():
        module = module.replace("__", ".")
        listed |= {module} if kind == "own" else {f"{module}.{name}" for name in of[kind]}
    return listed


def conv(x: torch.Tensor, p: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """A 1x1 convolution of (N, C, ...)."""
    out = torch.einsum("nc...,dc->nd...", x, p[f"{name}.weight"].flatten(1))
    bias = p.get(f"{name}.bias")
    return out if bias is None else out + bias.view(-1, *[1] * (x.dim() - 2))


def norm(x: torch.Tensor, p: dict[str, torch.Tensor], name: str, training: bool) -> torch.Tensor:
    axes, shape = [0, *range(2, x.dim())], (-1, *[1] * (x.dim() - 2))
    mean, variance = p[f"{name}.running_mean"].view(shape), p[f"{name}.running_var"].view(shape)
    if training:
        mean, variance = x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)
    scale, shift = p[f"{name}.weight"].view(shape), p[f"{name}.bias"].view(shape)
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


def down(x: torch.Tensor, p: dict[str, torch.Tensor], training: bool) -> torch.Tensor:
    return norm(conv(x, p, "down.0"), p, "down.1", training) if "down.0.weight" in p else x


def disturbed(unit: nn.Module) -> nn.Module:
    """In float64, with numbers that hide nothing: many parameters start at zero or one."""
    unit = unit.double()
    with torch.no_grad():
        for parameter in unit.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        for name, buffer in unit.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
            elif name.endswith("running_mean"):
                buffer.normal_()
    return unit


def check(unit: nn.Module, written: Written, x: torch.Tensor, expected_names: set[str], *others: torch.Tensor) -> None:
    """The unit's names are these, and it computes what is ``written`` of its state: outputs and all gradients, in
    training and in evaluation."""
    assert set(unit.state_dict()) == expected_names
    disturbed(unit)
    trained = dict(unit.named_parameters())
    for training in (True, False):
        unit.train(training)
        # Before the call, which moves the running statistics.
        state = {name: tensor.detach().clone() for name, tensor in unit.state_dict().items()}
        leaves = {name: state[name].requires_grad_() for name, t in trained.items() if t.requires_grad}
        ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        out, expected = unit(ours, *others), written(theirs, state, training)
        if not isinstance(out, tuple):
            out, expected = (out,), (expected,)
        for one, other in zip(out, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
        weights = [torch.randn_like(one) for one in expected]
        found = torch.autograd.grad(out, [ours, *(trained[name] for name in leaves)], weights, allow_unused=True)
        wanted = torch.autograd.grad(expected, [theirs, *leaves.values()], weights, allow_unused=True)
        for name, one, other in zip(["x", *leaves], found, wanted, strict=True):
            like = x if name == "x" else leaves[name]
            one, other = (torch.zeros_like(like) if g is None else g for g in (one, other))
            scale = other.abs().max().clamp(min=1) if other.numel() else 1
            torch.testing.assert_close(one / scale, other / scale, rtol=1e-7, atol=1e-8, msg=f"gradient of {name}")


def check_refusals(name: str, make: Callable[[torch.Tensor], nn.Module], C: int, A: torch.Tensor) -> None:
    """Adjacencies and features of wrong axes, devices and dtypes each end in one sentence of this unit."""
    for wrong in (A[0], A[..., 1:], A[..., :0, :0]):
        with pytest.raises(ValueError, match=rf"^{name}: A must be \("):
            make(wrong)
    unit, x = make(A), torch.randn(2, C, 5, A.shape[-1])
    for wrong in (x[0], x[:, 1:], x[..., 1:]):
        with pytest.raises(ValueError, match=rf"^{name}: x must be \(N, .*\), got shape"):
            unit(wrong)
    with pytest.raises(ValueError, match=f"^{name}: x must be on cpu, got meta"):
        unit(x.to("meta"))
    with pytest.raises(TypeError, match=f"^{name}: x must be torch.float32, as the parameters, got torch.float64"):
        unit(x.double())


def check_types(unit: nn.Module, x: torch.Tensor) -> None:
    """Autocast runs and leaves gradients in the parameters' type; no clip is no error."""
    with torch.autocast("cpu", torch.bfloat16):
        out = unit(x)
    first = out[0] if isinstance(out, tuple) else out
    first.float().sum().backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in unit.parameters())
    empty = unit.eval()(x[:0])
    assert (empty[0] if isinstance(empty, tuple) else empty).shape == (0, *first.shape[1:])


def check_travels(unit: nn.Module, x: torch.Tensor) -> None:
    """A copy, a saved and loaded one and a traced one in one graph compute the same, and are trained the same."""
    saved = io.BytesIO()
    torch.save(unit, saved)
    saved.seek(0)
    torch._dynamo.reset()
    loaded = torch.load(saved, weights_only=False)
    found = []
    for other in (copy.deepcopy(unit), loaded, torch.compile(copy.deepcopy(unit), backend="aot_eager", fullgraph=True)):
        out = other(x)
        first = out[0] if isinstance(out, tuple) else out
        first.square().sum().backward()
        found.append([first, *(p.grad for p in other.parameters() if p.grad is not None)])
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * one.detach().abs().max().item() + 1e-6)
