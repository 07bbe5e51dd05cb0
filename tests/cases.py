"""What the tests of the ops share: backends, tolerances, odd strides, and the checks every op must pass."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import torch
import torch._dynamo.testing
from torch.library import opcheck

BACKENDS = ("cpu", "reference")
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
TOLERANCE = {
    torch.float64: {"rtol": 1e-10, "atol": 1e-10},
    torch.float32: {"rtol": 2e-5, "atol": 2e-5},
    torch.bfloat16: {"rtol": 2e-2, "atol": 2e-2},
    torch.float16: {"rtol": 2e-3, "atol": 2e-3},
}


def layouts(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The same numbers in memory orders that users have."""
    order = list(range(x.dim()))
    turned = order[:1] + order[1:][::-1]
    wide = torch.full([2 * size for size in x.shape], float("nan"), dtype=x.dtype)
    wide[tuple(slice(None, None, 2) for _ in x.shape)] = x
    return {
        "contiguous": x.contiguous(),
        "turned": x.permute(turned).contiguous().permute([turned.index(axis) for axis in order]),
        "channels_last": x.movedim(1, -1).contiguous().movedim(-1, 1),
        "every_second": wide[tuple(slice(None, None, 2) for _ in x.shape)],
    }


def assert_close(actual: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    """``expected`` in float64; the tolerance is that of ``dtype``."""
    torch.testing.assert_close(actual.double(), expected.double(), **TOLERANCE[dtype])


def gradients(function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> list[torch.Tensor]:
    """Gradients of a fixed weighted sum of the output, so that every output counts differently."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    output = function(*leaves)
    weight = torch.linspace(-1, 2, max(output.numel(), 1), dtype=torch.float64)[: output.numel()]
    weight = weight.view(output.shape).to(output)
    return list(torch.autograd.grad(output, leaves, weight))


def check_op(op: str, arguments: Sequence[object]) -> None:
    """PyTorch's own check of schema, autograd registration, fake and compiled tracing."""
    opcheck(getattr(torch.ops.asma, op).default, tuple(arguments))


def check_compiled(function: Callable[..., torch.Tensor], *calls: Sequence[torch.Tensor]) -> None:
    """torch.compile(fullgraph) equals eager, and calls of one shape compile once."""
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("inductor")
    compiled = torch.compile(function, fullgraph=True, backend=counter)
    for inputs in calls:
        torch.testing.assert_close(compiled(*inputs), function(*inputs), rtol=1e-5, atol=1e-5)
    assert counter.frame_count == 1, f"compiled {counter.frame_count} times for {len(calls)} calls of one shape"


def check_threads(function: Callable[[], torch.Tensor]) -> None:
    """Bit-equal for any number of threads."""
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(function())
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert torch.equal(results[0], other)


def check_concurrent(function: Callable[[], torch.Tensor]) -> None:
    """Calls from several Python threads do not disturb each other."""
    expected = function()
    results: list[torch.Tensor | None] = [None] * 4

    def run(place: int) -> None:
        results[place] = function()

    workers = [threading.Thread(target=run, args=(place,)) for place in range(len(results))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for result in results:
        assert result is not None and torch.equal(result, expected)
