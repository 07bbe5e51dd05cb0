"""Makes one of our modules hold what somebody's holds: the very parameters, buffers and layers, in their order."""

from __future__ import annotations

import itertools
from typing import Any, cast

from torch import nn

HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks",
    "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip


class Left(Exception):  # noqa: N818 - it is no error
    """Why a module is left, in a sentence."""


def adopt(ours: nn.Module, theirs: nn.Module) -> nn.Module:
    """``ours`` with the parameters, buffers and layers of ``theirs``, its device, dtype and mode."""
    like = next((t for t in itertools.chain(theirs.parameters(), theirs.buffers()) if t.is_floating_point()), None)
    if like is not None:
        ours.to(like.device, like.dtype)
    hand_over(theirs, ours)
    mine, wanted = ours.state_dict(keep_vars=True), theirs.state_dict(keep_vars=True)
    if set(mine) != set(wanted):
        raise Left(f"the names of the state differ in {', '.join(sorted(set(mine) ^ set(wanted)))}")
    foreign = [name for name in mine if mine[name] is not wanted[name]]
    if foreign:
        raise Left(f"{type(ours).__name__} cannot take over {', '.join(foreign)}")
    known = dict(ours.named_modules(remove_duplicate=False))
    for name, part in theirs.named_modules(remove_duplicate=False):
        if name not in known and not _does_nothing_unseen(part):
            raise Left(f"{type(ours).__name__} has no part like {name} ({type(part).__name__})")
    return ours


def hand_over(source: nn.Module, into: nn.Module) -> None:
    """What both have by the same name: parameters and buffers, the very objects, and whole layers of PyTorch's own."""
    into.training = source.training
    for name, child in into._modules.items():
        given = source._modules.get(name)
        if child is None or child is given:
            continue
        if given is None:
            child.train(source.training)
        elif _is_layer(given):
            into._modules[name] = given
        else:
            hand_over(given, child)
    for kind in ("_parameters", "_buffers"):
        for name, value in getattr(source, kind).items():
            if name in into._parameters or name in into._buffers:
                into._parameters.pop(name, None)
                into._buffers.pop(name, None)
                into._non_persistent_buffers_set.discard(name)
                getattr(into, kind)[name] = value
    into._non_persistent_buffers_set |= source._non_persistent_buffers_set & into._buffers.keys()
    # Optimisers number the parameters by their order.
    for kind in ("_parameters", "_buffers", "_modules"):
        first, held = cast(dict[str, Any], getattr(source, kind)), cast(dict[str, Any], getattr(into, kind))
        for name in [*(name for name in first if name in held), *(name for name in held if name not in first)]:
            held[name] = held.pop(name)


def refuse_what_cannot_be_kept(module: nn.Module) -> None:
    """Raises for what hangs on the module, or on one inside it, and would be lost."""
    for name, part in module.named_modules():
        where = f" ({name})" if name else ""
        if any(getattr(part, hooks, None) for hooks in HOOKS):
            raise Left(f"it has hooks{where}, which nobody would call any more")
        if "forward" in vars(part) or part._compiled_call_impl is not None:
            raise Left(f"forward{where} was replaced on the object, or the object compiled by itself")


def _is_layer(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.") and not module._modules


def _does_nothing_unseen(module: nn.Module) -> bool:
    """A layer of PyTorch's own that draws nothing: what it computes shows in the comparison."""
    random = (nn.modules.dropout._DropoutNd, nn.AlphaDropout, nn.RReLU)
    return _is_layer(module) and not isinstance(module, random)
