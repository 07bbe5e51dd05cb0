"""Which clips come when: batches of an epoch, on one machine or on many."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from asma.data.samplers import Sample, philox_words

__all__ = ["Batches", "Order", "ShardedBatches"]


class Order(Protocol):
    """Batches without an end, and where one is in them."""

    def next(self) -> torch.Tensor:
        """(batch,) int64, the clips of the next batch, on the device that `to` named."""
        ...

    @property
    def sample(self) -> Sample:
        """The random draws of the epoch that the last batch is of."""
        ...

    def to(self, device: torch.device) -> None:
        """From now on batches are on this device."""
        ...

    def state(self) -> dict[str, Any]:
        """What `load_state` needs to go on as if nothing had happened."""
        ...

    def load_state(self, state: dict[str, Any]) -> None: ...


class Batches:
    """Index batches, a new permutation for each epoch; the last clips that do not fill a batch are left out."""

    def __init__(self, clips: int, batch: int, seed: int, device: torch.device) -> None:
        self.clips, self.batch, self.seed, self.device = clips, batch, seed, device
        self.generator = torch.Generator().manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.int64, device=device)
        self.position = self.begun = 0

    def next(self) -> torch.Tensor:
        """(batch,) int64 on the device."""
        if self.position + self.batch > len(self.order):
            self.order = torch.randperm(self.clips, generator=self.generator).to(self.device)
            self.position, self.begun = 0, self.begun + 1
        self.position += self.batch
        return self.order[self.position - self.batch : self.position]

    @property
    def sample(self) -> Sample:
        """See `Order`."""
        return Sample(self.seed, max(self.begun - 1, 0))

    def to(self, device: torch.device) -> None:
        """See `Order`."""
        self.device, self.order = device, self.order.to(device)

    def state(self) -> dict[str, Any]:
        """See `Order`."""
        where = {"position": self.position, "begun": self.begun}
        return {"generator": self.generator.get_state(), "order": self.order.cpu(), **where}

    def load_state(self, state: dict[str, Any]) -> None:
        """See `Order`."""
        self.generator.set_state(state["generator"])
        self.order, self.position = state["order"].to(self.device), state["position"]
        self.begun = state.get("begun", 0)  # checkpoints from before epochs were counted are of runs that draw nothing


class ShardedBatches:
    """The batches of one of many processes, each of which reads its own shards.

    In every epoch the shards are laid out in a new order and cut into as many equal stretches of clips as there are
    processes; a process takes the clips of its stretch in random order. So all have the same number of batches, and of
    the shards a process reads its share and at most two that it has in common with a neighbour. The order follows from
    seed, epoch and the number of processes; clips that do not divide by it, or do not fill a batch, wait for another
    epoch. Epoch and position are the whole state.

    Args:
        shard_of: (N) integers, the shard of each clip, as `Store.shard_of`.
        batch: clips of a batch.
        seed: of the order.
        rank, world: which of how many processes.

    Raises:
        ValueError: a seed that is not in [0, 2^63), a rank that is not in [0, world), or fewer clips for each process
            than a batch has.

    >>> orders = [ShardedBatches(np.array([0, 0, 0, 1, 1, 1]), 3, seed=0, rank=rank, world=2) for rank in range(2)]
    >>> sorted(torch.cat([order.next() for order in orders]).tolist())
    [0, 1, 2, 3, 4, 5]
    """

    def __init__(self, shard_of: NDArray[np.int64], batch: int, seed: int, rank: int = 0, world: int = 1) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"ShardedBatches: rank must be in [0, {world}), got {rank}")
        if not 1 <= batch <= len(shard_of) // world:
            raise ValueError(
                f"ShardedBatches: batch must be in [1, {len(shard_of) // world}], the clips of each of {world} "
                f"processes, got {batch}"
            )
        self.shard_of = np.asarray(shard_of)
        self.batch, self.seed, self.rank, self.world = batch, seed, rank, world
        self.device = torch.device("cpu")
        self.epoch = self.position = 0
        self.order = self._order()

    @property
    def sample(self) -> Sample:
        """See `Order`."""
        return Sample(self.seed, self.epoch)

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return len(self.order) // self.batch

    @property
    def shards(self) -> list[int]:
        """What this process reads in the present epoch."""
        found: list[int] = np.unique(self.shard_of[self.order.cpu().numpy()]).tolist()
        return found

    def next(self) -> torch.Tensor:
        """(batch,) int64 on the device."""
        if self.position == self.steps:
            self.epoch, self.position = self.epoch + 1, 0
            self.order = self._order()
        self.position += 1
        return self.order[(self.position - 1) * self.batch : self.position * self.batch]

    def to(self, device: torch.device) -> None:
        """See `Order`."""
        self.device, self.order = device, self.order.to(device)

    def state(self) -> dict[str, Any]:
        """See `Order`."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on in mid-epoch.

        Raises:
            ValueError: the position lies outside of an epoch.
        """
        epoch, position = int(state["epoch"]), int(state["position"])
        if epoch < 0 or not 0 <= position <= self.steps:
            raise ValueError(f"ShardedBatches: position must be in [0, {self.steps}], got {position} of epoch {epoch}")
        self.epoch, self.position = epoch, position
        self.order = self._order()

    def _order(self) -> torch.Tensor:
        shards, inverse = np.unique(self.shard_of, return_inverse=True)
        place = philox_words(self.seed, self.epoch, 0, len(shards)).argsort(kind="stable").argsort()
        laid_out = place[inverse.reshape(-1)].argsort(kind="stable")
        share = len(laid_out) // self.world
        mine = laid_out[self.rank * share : (self.rank + 1) * share]
        mixed = mine[philox_words(self.seed, self.epoch, 1 + self.rank, share).argsort(kind="stable")]
        return torch.from_numpy(mixed).to(self.device)
