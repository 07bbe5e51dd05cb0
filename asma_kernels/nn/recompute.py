"""Less memory in training: what a backward needs is computed again instead of kept (Chen et al., arXiv 1604.06174)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from .. import _dispatch


def recomputed(module: nn.Module, *inputs: Any) -> Any:
    """``module(*inputs)``, of which only the inputs are kept for the backward; there it is computed once more.

    The second time draws the same random numbers from torch's generators, runs on the same backend under the same
    autocast, and writes into copies of the module's buffers, so the running statistics of batch norms move once. That
    is what ``torch.utils.checkpoint``, which does the rest, leaves to its caller.

    Args:
        module: any; what it computes must follow from its inputs, parameters, buffers and torch's random numbers.
        inputs: what it takes.

    Returns:
        What it gives, on any device and of any dtype. Gradients are those of ``module(*inputs)``, bit for bit where
        the module itself repeats bit for bit, as ours do. Not inside a CUDA graph where the module draws random
        numbers: the state of a device's generator cannot be read there.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.nn import STGCNBlock, recomputed
        >>> block, adjacency = STGCNBlock(3, 16, partitions=3), Skeleton.builtin("ntu25").partition("spatial")
        >>> recomputed(block, torch.randn(2, 3, 8, 25), adjacency).sum().backward()
    """
    backend, first = _dispatch.chosen(), True

    def compute(*given: Any) -> Any:
        nonlocal first
        if first:
            first = False
            return module(*given)
        copies = {name: buffer.clone() for name, buffer in module.named_buffers()}
        with _dispatch.backend(backend):
            return functional_call(module, copies, given)

    return checkpoint(compute, *inputs, use_reentrant=False)


def in_parts(module: nn.Module, x: torch.Tensor, size: int, *others: Any) -> torch.Tensor:
    """``module(x, *others)`` with the activations of ``size`` clips at a time, for a loss that compares all clips.

    A loss over a batch, as Barlow Twins', is not a sum over its clips, so gradients of small batches do not add up to
    that of a large one. This is the gradient cache of Gao et al. (arXiv 2101.06983): the loss sees the representations
    of all clips; in the backward each part is computed again and given its share of the gradient. Gradients are those
    of the whole batch but for rounding. A module whose batch norms take the batch's statistics is refused: a part's are
    others, and every norm ties all clips together, forward and backward.

    Args:
        module: (n, ...) -> (n, D), each row from its own clip alone.
        x: (N, ...), any dtype and device; split along the first axis.
        size: clips of a part, at least 1; the last part may have fewer.
        others: what the module takes besides, the same for every part.

    Returns:
        (N, D). Dropout is drawn part by part.

    Raises:
        ValueError: a batch norm that takes the batch's statistics, or a size below 1.

    Example:
        >>> import torch
        >>> from asma_kernels import barlow_twins
        >>> from asma_kernels.nn import in_parts
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(75, 16), torch.nn.LayerNorm(16))
        >>> views = torch.randn(2, 48, 3, 25)
        >>> barlow_twins(*(in_parts(model, view, 16) for view in views)).backward()
    """
    if size < 1:
        raise ValueError(f"in_parts: size must be at least 1, got {size}")
    for name, norm in module.named_modules():
        if isinstance(norm, _BatchNorm) and (norm.training or norm.running_mean is None):
            raise ValueError(
                f"in_parts: {name or type(norm).__name__} takes the statistics of its batch, and those of a part are "
                "others: take recomputed, which needs no parts, more processes, or norms in evaluation mode"
            )
    return torch.cat([recomputed(module, part, *others) for part in x.split(size)])
