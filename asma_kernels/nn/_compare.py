"""Whether one of our modules computes what somebody's module computes: on copies, on the CPU, in float64."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ._adopt import Left, adopt
from ._recognise import Build

TOLERANCES = {torch.float64: (1e-6, 1e-3), torch.float32: (1e-4, 1e-1)}
"""Largest difference relative to the largest number, of each gradient no less than a share of the largest gradient."""


def difference(build: Build, module: nn.Module, inputs: Callable[[Any], tuple[Any, ...]]) -> tuple[float, float]:
    """Largest relative difference of the two, and the largest one that means equal: of outputs, of gradients of inputs
    and parameters and of what the state holds afterwards, in training and in evaluation."""
    try:
        return _difference(build, module, inputs, torch.float64), TOLERANCES[torch.float64][0]
    except RuntimeError:  # it converts to float32 inside
        return _difference(build, module, inputs, torch.float32), TOLERANCES[torch.float32][0]


def _difference(build: Build, module: nn.Module, inputs: Callable[[Any], tuple[Any, ...]], dtype: torch.dtype) -> float:
    theirs = _copied(module, dtype)
    ours = adopt(_in(dtype, build()), copy.deepcopy(theirs))
    floor, worst = TOLERANCES[dtype][1], 0.0
    for training in (True, False):
        given = tuple(part.to(dtype) if isinstance(part, torch.Tensor) else part for part in inputs(ours))
        both = []
        for part in (theirs, ours):
            part.train(training)
            before = _drawn()
            outputs, gradients = _run(part, given)
            if _drawn() != before:
                raise Left("it draws random numbers, which cannot be compared")
            state = {name: value for name, value in part.state_dict().items() if value.is_floating_point()}
            both.append((outputs, gradients, state))
        wanted, found = both
        if [part.shape for part in wanted[0]] != [part.shape for part in found[0]]:
            shapes = [[tuple(part.shape) for part in side[0]] for side in both]
            raise Left(f"it gives {shapes[0]}, {type(ours).__name__} gives {shapes[1]}")
        least = floor * max((float(part.abs().max()) for part in wanted[1].values() if part.numel()), default=0)
        pairs = [(one, other, 0.0) for one, other in zip(wanted[0], found[0], strict=True)]
        pairs += [(one, found[1][name], least) for name, one in wanted[1].items()]
        pairs += [(one, found[2][name], 0.0) for name, one in wanted[2].items()]
        worst = max(worst, *(_relative(*pair) for pair in pairs))
    return worst


def _relative(wanted: torch.Tensor, found: torch.Tensor, least: float) -> float:
    if not wanted.numel():
        return 0.0
    apart = float((wanted - found).abs().max())
    scale = max(float(wanted.abs().max()), least)
    return apart / scale if scale else (0.0 if apart == 0 else float("inf"))


def _run(module: nn.Module, given: tuple[Any, ...]) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Outputs, and gradients by the names of the parameters and the numbers of the arguments."""
    leaves = [part.clone().requires_grad_() if isinstance(part, torch.Tensor) else part for part in given]
    with _OnCPU():
        # Copies: somebody's module may write into its input.
        given = tuple(part.clone() if isinstance(part, torch.Tensor) else part for part in leaves)
        outputs = [part for part in _flat(module(*given)) if isinstance(part, torch.Tensor)]
    wanted: dict[str, torch.Tensor] = {str(i): leaf for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)}
    wanted |= {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    # Not all ones: behind a norm the sum of all outputs has no gradient.
    weights = [torch.linspace(-1, 2, part.numel(), dtype=part.dtype, device="cpu").view(part.shape) for part in outputs]
    taught = [(part, weight) for part, weight in zip(outputs, weights, strict=True) if part.requires_grad]
    gradients = torch.autograd.grad(
        [part for part, _ in taught], [*wanted.values()], [weight for _, weight in taught],
        allow_unused=True, materialize_grads=True,
    )  # fmt: skip
    return [part.detach() for part in outputs], dict(zip(wanted, gradients, strict=True))


def _flat(output: Any) -> Iterator[Any]:
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, tuple | list):
        for part in output:
            yield from _flat(part)
    else:
        yield output


def _copied(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """On the CPU, without dropout, and with no parameters at zero, where many start: they would hide a difference."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:  # what a forward left behind
                memo[id(value)] = value.detach().clone()
    copied = _in(dtype, copy.deepcopy(module, memo).cpu())
    for part in copied.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0
        elif isinstance(part, nn.SyncBatchNorm):
            part.__class__ = nn.BatchNorm2d  # type: ignore[assignment]
    for parameter in copied.parameters():
        if parameter.is_floating_point() and not _is_identity(parameter):
            parameter.requires_grad_()
            with torch.no_grad():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return copied


def _is_identity(parameter: nn.Parameter) -> bool:
    """DecoupleGCN keeps some that are no parameters."""
    if parameter.requires_grad or parameter.dim() < 2 or parameter.shape[-1] != parameter.shape[-2]:
        return False
    return bool(parameter.detach().eq(torch.eye(parameter.shape[-1]).to(parameter)).all())


def _in(dtype: torch.dtype, module: nn.Module) -> nn.Module:
    """With the tensors too that are no part of the state."""
    module.to(dtype)
    for part in module.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                setattr(part, name, value.detach().to("cpu", dtype))
    return module


class _OnCPU(TorchFunctionMode):
    """Calls that send tensors to a GPU do nothing. Nor does ``float()``, and distances are taken of differences, not of
    products: both would hide small differences."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.cuda or (func is torch.Tensor.float and args[0].dtype == torch.float64):
            return args[0]
        if func is torch.Tensor.get_device:
            return args[0].device
        if func is torch.cdist:
            kwargs["compute_mode"] = "donot_use_mm_for_euclid_dist"
        if "cuda" in str(kwargs.get("device")):
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)


@contextmanager
def alone() -> Iterator[None]:
    """Away from the caller's modes and random state, with a state of its own."""
    others = random.getstate(), np.random.get_state()
    with (
        torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad(),
        torch.autocast("cpu", enabled=False), torch.device("cpu"),
    ):  # fmt: skip
        torch.manual_seed(0)
        try:
            yield
        finally:
            random.setstate(others[0])
            np.random.set_state(others[1])


def _drawn() -> tuple[Any, ...]:
    """Changes when somebody draws."""
    words = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), words[1].tobytes(), words[2]  # type: ignore[index, union-attr]
