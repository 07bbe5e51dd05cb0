"""Several processes that train one model: what `torchrun` started, and what they have to do together.

Alone, every function is the identity or does nothing. The model's numbers are those of one process with the whole
batch: batch norms take statistics of the global batch, the loss compares all clips of it, gradients are summed.
"""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from .data.order import Order
from .data.samplers import Sample

__all__ = [
    "GlobalBatchNorm", "OwnRows", "alone", "any_process", "first", "gather", "gather_rows", "global_norms",
    "memory_bytes", "own_rows", "processes", "rank", "restarted", "started", "wait", "world",
]  # fmt: skip


@contextmanager
def processes(device: str) -> Iterator[None]:
    """Join the processes that `torchrun` started, if it did: gloo on the CPU, nccl on GPUs.

    Each process takes the GPU of its local rank where the device is "cuda".
    """
    if not started() or dist.is_initialized():
        yield
        return
    gpu = device.startswith("cuda")
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, rank, world = next(rendezvous("env://"))
    # torchrun's store outlives a restart, and with it the addresses of processes that are dead.
    store = PrefixStore(f"asma/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group("nccl" if gpu else "gloo", store=store, rank=rank, world_size=world)
    try:
        yield
    finally:
        # gloo's threads end with the last reference to the group, of which DistributedDataParallel has one in a cycle.
        # A process that exits beside them aborts now and then.
        gc.collect()
        dist.destroy_process_group()


def started() -> bool:
    """Whether `torchrun` started this process among several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def restarted() -> bool:
    """Whether `torchrun` started it again, after a process died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Of this process, also before and after they work together."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", "0")) if started() else 0


def alone() -> bool:
    return world() == 1


def first() -> bool:
    return rank() == 0


def wait() -> None:
    """For all processes to come here."""
    if not alone():
        dist.barrier()


def any_process(condition: bool, device: torch.device) -> bool:
    """Whether the condition holds in one of the processes, which must all ask."""
    if alone():
        return condition
    found = torch.tensor(int(condition), device=device)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return bool(found)


def gather(value: Any) -> list[Any]:
    """The values of all processes, in the order of their ranks."""
    if alone():
        return [value]
    found: list[Any] = [None] * world()
    dist.all_gather_object(found, value)
    return found


def own_rows(rows: int) -> slice:
    """Which rows of a global batch are this process's: as many as others have, or one more.

    >>> own_rows(7)
    slice(0, 7, None)
    """
    share, rest = divmod(rows, world())
    begin = rank() * share + min(rank(), rest)
    return slice(begin, begin + share + (rank() < rest))


class OwnRows:
    """An order (asma.data.order.Order) of global batches, of which each process takes its own rows."""

    def __init__(self, order: Order) -> None:
        self.order = order

    def next(self) -> torch.Tensor:
        batch = self.order.next()
        return batch[own_rows(len(batch))]

    @property
    def sample(self) -> Sample:
        return self.order.sample

    def to(self, device: torch.device) -> None:
        self.order.to(device)

    def state(self) -> dict[str, Any]:
        return self.order.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.order.load_state(state)


def gather_rows(x: torch.Tensor, rows: int) -> torch.Tensor:
    """The rows (rows, ...) of all processes, of which this one has `own_rows`.

    What follows is computed in every process alike, so the gradient of a row is the one that its own process finds.
    """
    found: torch.Tensor = x if alone() else _GatherRows.apply(x, rows)
    return found


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, rows: int) -> torch.Tensor:
        ctx.own = own_rows(rows)
        # Padded by a row where this process has one fewer: a collective takes equal parts.
        most = -(-rows // world())
        padded = x.new_zeros((most, *x.shape[1:]))
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in range(world())]
        dist.all_gather(parts, padded)
        share, rest = divmod(rows, world())
        return torch.cat([part[: share + (place < rest)] for place, part in enumerate(parts)])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grads[0][ctx.own], None


class _Sum(torch.autograd.Function):
    """The sum over processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def _sum(x: torch.Tensor) -> torch.Tensor:
    total: torch.Tensor = x if alone() else _Sum.apply(x)
    return total


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """A batch norm whose statistics in training are those of the batches of all processes together.

    Written out, as PyTorch's SyncBatchNorm is for GPUs only. Mean first, then centred squares: two small reductions,
    and no digits lost by a large mean.
    """

    def _check_input_dim(self, input: torch.Tensor) -> None:
        pass

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(input)
        axes = [axis for axis in range(input.dim()) if axis != 1]
        shape = [1, -1] + [1] * (input.dim() - 2)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        count = torch.full((1,), x.numel() // x.shape[1], dtype=x.dtype, device=x.device)
        total = _sum(torch.cat([x.sum(axes), count]))
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = x - mean.view(shape)
        variance = _sum(centred.square().sum(axes)) / count
        with torch.no_grad():
            for running, now in ((self.running_mean, mean), (self.running_var, variance * (count / (count - 1)))):
                if running is not None and self.momentum is not None:
                    running.lerp_(now.to(running.dtype), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        out = centred * ((variance + self.eps).rsqrt() * self.weight).view(shape) + self.bias.view(shape)
        return out.to(input.dtype)


def global_norms(model: nn.Module) -> None:
    """Every batch norm of a model becomes a `GlobalBatchNorm`, with the same parameters, buffers and names."""
    if alone():
        return
    for parent in list(model.modules()):
        for name, norm in parent.named_children():
            if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
                twin = GlobalBatchNorm(norm.num_features, norm.eps, norm.momentum)
                twin.train(norm.training)
                for owned in (norm._parameters, norm._buffers):
                    for key, value in owned.items():
                        setattr(twin, key, value)
                setattr(parent, name, twin)


def memory_bytes(device: torch.device) -> int:
    """The most memory that was in use so far: of the device's tensors, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
