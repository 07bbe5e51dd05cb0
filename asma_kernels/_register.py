"""What every op tells PyTorch beside its kernels: fake, autograd, autocast and the fallback for other devices."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch

from . import _library

_fragment = torch.library.Library("asma", "FRAGMENT") if _library.LOADED else None
_triton_ops = torch.library.Library("asma_triton", "DEF") if _library.LOADED else None


def triton(op: str, fake_function: Callable[..., Any], file: str = "") -> None:
    """``asma_triton::<op>``: the schema of ``asma::<op>``, run by a kernel of :mod:`asma_kernels.triton`.

    The kernel is in the op's file, or in that of the op ``file``. Opaque to torch.compile, and Triton is imported by
    the first call.
    """
    if _triton_ops is None:
        return
    module = f"{__package__}.triton.{file or op.removesuffix('_backward')}"

    def call(*arguments: Any) -> Any:
        kernel = getattr(importlib.import_module(module), op)
        with torch.cuda.device_of(arguments[0]):  # Triton launches on the current device
            return kernel(*arguments)

    _triton_ops.define(str(getattr(torch.ops.asma, op).default._schema).removeprefix("asma::"))
    _triton_ops.impl(op, call, "CompositeExplicitAutograd")
    torch.library.register_fake(f"asma_triton::{op}", fake_function)


def fake(op: str, function: Callable[..., Any]) -> None:
    """Shapes and dtypes of the op's outputs, for torch.compile and torch.export."""
    if _library.LOADED:
        torch.library.register_fake(f"asma::{op}", function)


def autograd(op: str, backward: Callable[..., Any], save: Callable[..., None], namespace: str = "asma") -> None:
    if _library.LOADED:
        torch.library.register_autograd(f"{namespace}::{op}", backward, setup_context=save)


def no_gradient(op: str, why: str, namespace: str = "asma") -> None:
    """Gradients through the op end in a sentence."""

    def refuse(ctx: Any, *grads: Any) -> None:
        raise RuntimeError(why)

    autograd(op, refuse, lambda ctx, inputs, output: None, namespace)


def no_double_backward(op: str, namespace: str = "asma") -> None:
    """The op ``<op>_backward`` says clearly that it has no gradient of its own."""
    why = f"{op}: double backward is not implemented; use backend='reference' for gradients of gradients"
    no_gradient(f"{op}_backward", why, namespace)


def fallback(op: str, function: Callable[..., Any]) -> None:
    """The reference, for devices without a kernel of ours, so that ``torch.ops.asma.<op>`` runs there too."""
    if _fragment is not None:
        _fragment.impl(op, function, "CompositeExplicitAutograd")


def gradient(function: Callable[..., Any], grads: Any, *inputs: torch.Tensor) -> Any:
    """Gradients of a reference in its inputs: the backward ops of devices without a kernel of ours.

    One tensor for one input, a tuple for several.
    """
    C = torch._C  # PyTorch has switched autograd off around the op that calls this
    autograd_key = C.DispatchKeySet(C.DispatchKey.AutogradFunctionality)
    excluded = C._dispatch_tls_local_exclude_set() - autograd_key
    with C._ForceDispatchKeyGuard(C._dispatch_tls_local_include_set(), excluded), torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        result = torch.autograd.grad(function(*leaves), leaves, grads)
    return result[0] if len(result) == 1 else result


def autocast(op: str, policy: str) -> None:
    """Casts of floating inputs under autocast.

    ``first``: the first input (the data) to autocast's dtype, the others stay: kernels read parameters as they are.
    ``float32``: every input to float32.
    """
    if _fragment is None:
        return
    call = getattr(torch.ops.asma, op)
    for device, key in (("cpu", "AutocastCPU"), ("cuda", "AutocastCUDA")):
        keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

        def cast_and_call(*args: Any, device: str = device, keys: Any = keys, **kwargs: Any) -> Any:
            if policy == "first":
                args = (_cast(args[0], device, torch.get_autocast_dtype(device)), *args[1:])
            else:
                args = tuple(_cast(argument, device, torch.float32) for argument in args)
            with torch._C._ExcludeDispatchKeyGuard(keys):
                return call(*args, **kwargs)

        _fragment.impl(op, cast_and_call, key)


def autocast_features(x: torch.Tensor) -> torch.Tensor:
    """What policy ``first`` does with the data, for calls that do not pass through ``torch.ops.asma``."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        x = _cast(x, device, torch.get_autocast_dtype(device))
    return x


def _cast(value: Any, device: str, dtype: torch.dtype) -> Any:
    # float64 stays, as in PyTorch's own autocast rules.
    if isinstance(value, torch.Tensor) and value.is_floating_point() and value.device.type == device:
        return value if value.dtype == torch.float64 else value.to(dtype)
    return value
