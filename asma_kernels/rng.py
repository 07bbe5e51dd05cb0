"""Seed tensors for the masks and views.

An op that draws takes ``rng``, an int64 tensor ``[seed, call]`` on the device of its result, so that nothing is copied
from the host in a training step. Two ops with the same ``rng`` draw the same words: give each op call its own ``call``.
:class:`Draws` does that, on the device, also inside a CUDA graph.
"""

from __future__ import annotations

import torch


def seed_tensor(seed: int | torch.Generator = 0, call: int = 0, device: torch.device | str = "cpu") -> torch.Tensor:
    """``[seed, call]`` from a number or drawn from a ``torch.Generator``.

    Returns:
        int64 (2,) on ``device``.

    Raises:
        ValueError: seed or call does not fit 64 bits.

    Example:
        >>> from asma_kernels import rng
        >>> rng.seed_tensor(7, call=3).tolist()
        [7, 3]
    """
    if isinstance(seed, torch.Generator):
        drawn = torch.randint(-(2**63), 2**63 - 1, (1,), generator=seed, device=seed.device)
        return torch.cat([drawn.to(device), torch.tensor([call], device=device)])
    for name, value in (("seed", seed), ("call", call)):
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"seed_tensor: {name} must fit int64, got {value}")
    return torch.tensor([seed, call], dtype=torch.int64, device=device)


class Draws:
    """A stream of ``rng`` tensors with rising call numbers, one for each op call.

    ``state`` (int64 [seed, call]) is the whole state: save it in a checkpoint and hand it back to go on where one was.
    :meth:`next` advances ``state`` in place by a device operation, so a captured CUDA graph draws anew at every replay.

    Example:
        >>> import asma_kernels
        >>> draws = asma_kernels.rng.Draws(seed=7)
        >>> draws.next().tolist(), draws.next().tolist()
        ([7, 0], [7, 1])
    """

    def __init__(self, seed: int | torch.Generator = 0, device: torch.device | str = "cpu") -> None:
        self.state = seed_tensor(seed, device=device)
        self._step = torch.tensor([0, 1], dtype=torch.int64, device=device)

    def next(self) -> torch.Tensor:
        rng = self.state.clone()
        self.state += self._step
        return rng
