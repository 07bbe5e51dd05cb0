"""The order of an epoch over many processes: reproducible, shared out evenly, resumed in the middle."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asma.data.order import ShardedBatches

sizes = st.lists(st.integers(1, 30), min_size=1, max_size=12)


def shard_of(counts):
    return np.repeat(np.arange(len(counts)), counts)


def epoch(order):
    return torch.cat([order.next() for _ in range(order.steps)]).tolist()


@settings(deadline=None, max_examples=80)
@given(counts=sizes, world=st.integers(1, 5), batch=st.integers(1, 6), seed=st.integers(0, 2**63 - 2))
def test_an_epoch_visits_a_clip_at_most_once_and_all_ranks_alike(counts, world, batch, seed):
    shards = shard_of(counts)
    if batch > len(shards) // world:
        with pytest.raises(ValueError, match=r"ShardedBatches: batch must be in \[1, "):
            ShardedBatches(shards, batch, seed, 0, world)
        return
    orders = [ShardedBatches(shards, batch, seed, rank, world) for rank in range(world)]
    first = [epoch(order) for order in orders]
    assert len({len(each) for each in first}) == 1
    together = sum(first, [])
    assert len(set(together)) == len(together) and set(together) <= set(range(len(shards)))
    assert len(together) >= len(shards) - (batch - 1) * world - (world - 1)
    # The same again, by another process; another seed is another order.
    assert [epoch(ShardedBatches(shards, batch, seed, rank, world)) for rank in range(world)] == first
    if len(together) > 20:
        assert [epoch(order) for order in orders] != first
        assert epoch(ShardedBatches(shards, batch, seed + 1, 0, world)) != first[0]


def test_a_rank_reads_its_part_of_the_shards():
    shards = shard_of([50] * 40)
    orders = [ShardedBatches(shards, 25, 7, rank, 8) for rank in range(8)]
    for _ in range(3):
        for order in orders:
            assert len(order.shards) == 5
            read = {int(shards[clip]) for clip in epoch(order)}
            assert read == set(order.shards) or len(read) == 5
        assert sorted(sum((order.shards for order in orders), [])) == list(range(40))
        for order in orders:
            order.next()
            order.position = 0
    uneven = [ShardedBatches(shard_of([30, 70, 100, 11, 89]), 10, 1, rank, 3) for rank in range(3)]
    assert max(len(order.shards) for order in uneven) <= 4


def test_every_clip_comes_in_time():
    order = ShardedBatches(shard_of([10, 7, 12]), 8, 3, 1, 2)
    seen = set(sum((epoch(order) for _ in range(60)), []))
    assert seen == set(range(29))


@settings(deadline=None, max_examples=40)
@given(counts=sizes, steps=st.integers(0, 40))
def test_resumed_anywhere_it_goes_on_as_if_nothing_had_happened(counts, steps):
    order = ShardedBatches(shard_of(counts), 1, 5, 0, 1)
    for _ in range(steps):
        order.next()
    state = order.state()
    assert set(state) == {"epoch", "position"}
    expected = [order.next().tolist() for _ in range(10)]
    other = ShardedBatches(shard_of(counts), 1, 5, 0, 1)
    other.next()
    other.load_state(state)
    assert [other.next().tolist() for _ in range(10)] == expected


def test_the_order_stays_what_it_is():
    """Of this seed, on any machine and with any NumPy."""
    order = ShardedBatches(shard_of([3, 2, 3]), 2, 11, 1, 2)
    assert epoch(order) == [3, 4, 6, 7] and epoch(order) == [6, 5, 2, 7]


@pytest.mark.parametrize(("rank", "world"), [(-1, 2), (2, 2), (0, 0)])
def test_a_rank_that_is_none(rank, world):
    with pytest.raises(ValueError, match=r"ShardedBatches: rank must be in \[0, "):
        ShardedBatches(shard_of([4, 4]), 1, 0, rank, world)
    for seed in (-1, 2**63):
        with pytest.raises(ValueError, match=r"seed must be in \[0, 2\^63\)"):
            ShardedBatches(shard_of([4, 4]), 1, seed)


@pytest.mark.parametrize(
    "state", [{"epoch": 0, "position": 5}, {"epoch": -1, "position": 0}, {"epoch": 0, "position": -1}]
)
def test_a_state_that_is_none(state):
    with pytest.raises(ValueError, match=r"ShardedBatches: position must be in \[0, 4\]"):
        ShardedBatches(shard_of([4, 4]), 2, 0).load_state(state)
