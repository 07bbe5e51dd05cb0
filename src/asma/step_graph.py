"""A training step as one CUDA graph: one launch for some hundred kernels, none of which waits for the host."""

from __future__ import annotations

from collections.abc import Callable

import torch

WARM_UP = 3
"""Ordinary steps before the capture, in which libraries and the optimiser allocate what they keep."""


class StepGraph:
    """Calls ``step``, from the fourth call on by replaying what one call did on the GPU.

    The step must do the same each time: fixed shapes, no look at numbers on the host, no host randomness, all state in
    tensors that stay where they are.

    Args:
        step: from a tensor on the GPU (which clips, say) to the loss ().
    """

    def __init__(self, step: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.step = step
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.input = self.loss = torch.empty(0)

    def __call__(self, given: torch.Tensor) -> torch.Tensor:
        """``step(given)``; the result is the caller's own."""
        self.calls += 1
        if self.calls <= WARM_UP:
            # On another stream, as PyTorch asks for what is captured later.
            side, current = torch.cuda.Stream(given.device), torch.cuda.current_stream(given.device)
            side.wait_stream(current)
            with torch.cuda.stream(side):
                loss = self.step(given)
            current.wait_stream(side)
            return loss
        if self.graph is None:
            self.input, self.graph = given.clone(), torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.loss = self.step(self.input)
        self.input.copy_(given)
        self.graph.replay()
        return self.loss.clone()
