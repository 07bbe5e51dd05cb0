"""A module that draws: its ``[seed, call]`` is a buffer, on the device that the module is on."""

from __future__ import annotations

import torch
from torch import nn

from ..rng import seed_tensor


class RandomMask(nn.Module):
    """Keeps ``rng`` (int64 [seed, call], saved with the module) and raises its call at every draw by a device
    operation, so that nothing waits for the device and a captured CUDA graph draws anew at every replay.

    DistributedDataParallel copies buffers from the first rank to all: keep the module outside the wrapped model, with a
    seed for each rank, where ranks are to draw differently."""

    rng: torch.Tensor
    _step: torch.Tensor

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.register_buffer("rng", seed_tensor(seed))
        self.register_buffer("_step", torch.tensor([0, 1]), persistent=False)

    def next(self) -> torch.Tensor:
        """This draw's ``[seed, call]``."""
        drawn = self.rng.clone()
        self.rng += self._step
        return drawn
