"""Replaces what it recognises in somebody's model by our modules, after it has seen that they compute the same."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from . import _recognise
from ._adopt import Left, adopt, hand_over, refuse_what_cannot_be_kept
from ._compare import alone, difference
from ._recognise import Build, Structure


class Row(NamedTuple):
    """What :func:`patch` did with one module.

    Attributes:
        name: its name in the model, as in ``named_modules``; the first one where it has several.
        kind: its class.
        replacement: the class that replaced it; empty where it was left.
        why: why it was left; empty where it was replaced.
        difference: largest difference of outputs and gradients, of the largest number; NaN where nothing was compared.
    """

    name: str
    kind: str
    replacement: str
    why: str
    difference: float


class Patched:
    """What was replaced, and the way back.

    Attributes:
        rows: a :class:`Row` for each module that was recognised.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._kept: list[tuple[nn.Module, str, nn.Module, nn.Module]] = []

    def undo(self) -> None:
        """Put the model's own modules back, with the parameters and buffers as they are now. A place that holds another
        module than :func:`patch` put there stays as it is."""
        for parent, name, original, replacement in self._kept:
            if parent._modules.get(name) is replacement:
                hand_over(replacement, original)
                parent._modules[name] = original
        self._kept.clear()

    def __str__(self) -> str:
        if not self.rows:
            return "patch: nothing in the model is known to asma_kernels"
        return "\n".join(
            f"{row.name} ({row.kind}) -> {row.replacement} (largest relative difference {row.difference:.1e})"
            if row.replacement else f"{row.name} ({row.kind}) left: {row.why}"
            for row in self.rows
        )  # fmt: skip


def patch(model: nn.Module) -> Patched:
    """Replace in place what is recognised by its structure: parameters and their shapes, children, attributes.

    Each candidate is first compared with the original: copies of both on the CPU in float64, parameters disturbed (many
    start at zero and would hide a difference), random input, in training and in evaluation; outputs, gradients of input
    and parameters, and running statistics. Only what agrees to 1e-6 is kept. Where the original cannot run in float64
    it is float32 and 1e-4. Calls of ``cuda()`` do nothing meanwhile.

    A replacement holds the very parameters, buffers and PyTorch layers of the original under the same names in the same
    order: optimisers and checkpoints, of before and after, go on, and norms stay as they were changed or frozen.
    A module that the model holds in several places is replaced in all. Left are modules with hooks, with a forward of
    the object's own, and those that draw random numbers. Works inside ``DataParallel``, ``DistributedDataParallel`` and
    ``torch.compile``, which compiles again. Quantised, scripted and parametrised modules are of another structure and
    stay.

    Known are the graph convolutions of ST-GCN (PSTL, AimCLR, HiCLR), pyskl and mmaction2 (STGCN, STGCN++, AAGCN,
    CTR-GCN, DG-STGCN), 2s-AGCN, AAGCN, CTR-GCN, MS-G3D, DecoupleGCN, ProtoGCN, InfoGCN, HD-GCN and Hyper-GCN. See
    docs/drop_in.md.

    Args:
        model: any module; its own modules are replaced, it itself is not.

    Returns:
        What was replaced, what was left and why; ``print`` it. ``undo()`` puts the originals back.

    Deterministic; random states, the modes and the numbers of the model stay as they are.

    Example:
        >>> import torch
        >>> from asma_kernels import patch
        >>> class ConvTemporalGraphical(torch.nn.Module):  # as in ST-GCN
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.kernel_size, self.conv = 3, torch.nn.Conv2d(4, 3 * 8, 1)
        ...     def forward(self, x, A):
        ...         x = self.conv(x)
        ...         x = x.view(x.shape[0], 3, 8, *x.shape[2:])
        ...         return torch.einsum("nkctv,kvw->nctw", x, A).contiguous(), A
        >>> model = torch.nn.ModuleDict({"gcn": ConvTemporalGraphical()})
        >>> done = patch(model)
        >>> type(model["gcn"]).__module__, done.rows[0].replacement
        ('asma_kernels.nn.stgcn', 'ConvTemporalGraphical')
        >>> done.undo()
    """
    done = Patched()
    places: dict[nn.Module, list[tuple[nn.Module, str]]] = {}
    for parent in model.modules():
        for own, child in parent._modules.items():
            if child is not None:
                places.setdefault(child, []).append((parent, own))
    names = {module: name for name, module in model.named_modules()}
    with alone():
        _walk(model, names, places, done, set())
    return done


def _walk(
    module: nn.Module,
    names: dict[nn.Module, str],
    places: dict[nn.Module, list[tuple[nn.Module, str]]],
    done: Patched,
    seen: set[nn.Module],
) -> None:
    """From the outside inwards: what is inside a replaced module is replaced with it."""
    if module in seen or getattr(sys.modules[__package__], type(module).__name__, None) is type(module):
        return
    seen.add(module)
    found = _recognise.recognised(module)
    if found is not None:
        held = places.get(module, [])
        ours, row = _replacement(names[module] or "the model itself", module, *found, replaceable=bool(held))
        done.rows.append(row)
        if ours is not None:
            for parent, own in held:
                parent._modules[own] = ours
                done._kept.append((parent, own, module, ours))
            return
    for child in module.children():
        _walk(child, names, places, done, seen)


def _replacement(
    name: str, module: nn.Module, structure: Structure, builds: Sequence[Build], replaceable: bool
) -> tuple[nn.Module | None, Row]:
    """Ours where one agrees, and the report; where several differ the report has the nearest."""
    kind = type(module).__name__
    nearest, why = float("nan"), "it can only be replaced inside of another module"
    try:
        refuse_what_cannot_be_kept(module)
        for build in builds if replaceable else ():
            try:
                apart, tolerance = difference(build, module, structure.inputs)
            except Left as left:
                why = str(left)
                continue
            if apart <= tolerance:
                _check_call(build(), module)
                ours = adopt(build(), module)
                return ours, Row(name, kind, type(ours).__name__, "", apart)
            if not apart >= nearest:
                nearest, why = apart, f"it computes something else (relative difference {apart:.1e})"
    except Left as left:
        why = str(left)
    except Exception as error:  # somebody's module may do anything; it is left, and the report says why
        first = next(iter(str(error).splitlines()), "")
        why = f"it cannot be compared ({type(error).__name__}: {first})"
    return None, Row(name, kind, "", why, nearest)


def _check_call(ours: nn.Module, theirs: nn.Module) -> None:
    """Raises where theirs can be called in a way in which ours cannot."""
    given, known = ([part.name for part in _recognise.takes(module)][1:] for module in (theirs, ours))
    if given != known[: len(given)]:
        listed = [", ".join(["the features", *names]) for names in (given, known)]
        raise Left(f"its forward takes {listed[0]}, that of {type(ours).__name__} takes {listed[1]}")
