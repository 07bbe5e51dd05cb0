"""Batches on the device: the same whether the set lies there or is read ahead, and stopped and resumed anywhere."""

import gc
import threading
import time
from dataclasses import replace

import classifiers
import numpy as np
import pytest
import stores
import torch

from asma import pretrain as pretraining
from asma.checkpoint import load_encoder
from asma.config import (
    DataConfig,
    EncoderConfig,
    MaskConfig,
    OptimiserConfig,
    PretrainConfig,
    ProjectorConfig,
    ViewConfig,
)
from asma.data import Header, open_store
from asma.data import feed as feeding
from asma.data.feed import Feed
from asma.data.order import Batches, ShardedBatches
from asma.data.pipelines import pyskl
from asma.data.samplers import Sample
from asma.distill import DistillConfig, distill
from asma.finetune import FinetuneConfig, finetune
from asma.prepare import Prepared, open_split
from asma.pretrain import pretrain
from asma_kernels import Skeleton

CPU = torch.device("cpu")
NTU = Skeleton.builtin("ntu25")
PYSKL = DataConfig(frames=10, persons=2, pipeline="pyskl", draw=True)


@pytest.fixture(autouse=True)
def one_thread():
    """See test_pretrain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """60 clips of one or two persons on the NTU joints."""
    made = []
    for number in range(60):
        length = 8 + number % 7
        persons = [(0, 0, length), (1, 2, length - 3)][: 1 + number % 2]
        made.append(stores.clip(number, length, persons, joints=25))
    folder = tmp_path_factory.mktemp("feed") / "s"
    return open_store(stores.write(folder, made, Header("t", NTU, "xyz", ("a", "b"), "subject-odd-even")))


@pytest.fixture
def prepared(store):
    return Prepared(store, DataConfig(frames=10, persons=2))


def feeds(prepared, order):
    """On the device and read ahead."""
    return [Feed(prepared, order(), CPU, resident) for resident in (True, False)]


@pytest.mark.parametrize(
    "order",
    [lambda: Batches(60, 8, 3, CPU), lambda: ShardedBatches(np.repeat(np.arange(6), 10), 8, 3, 1, 2)],
    ids=["one process", "many"],
)
def test_both_ways_give_the_same_batches_and_resume_alike(prepared, order):
    resident, ahead = feeds(prepared, order)
    for _ in range(11):
        assert torch.equal(resident.next(), ahead.next())
    # Though more batches are made already, the state is that of the last one that was given out.
    time.sleep(0.05)
    states = [feed.state() for feed in (resident, ahead)]
    expected = [resident.next() for _ in range(9)]
    for state in states:
        for other in feeds(prepared, order):
            other.next()
            other.load_state(state)
            assert all(torch.equal(other.next(), batch) for batch in expected)
            other.close()
    assert resident.checksum() == ahead.checksum()
    for one, two in zip(resident.parts(), ahead.parts(), strict=True):
        assert torch.equal(one, two)
    ahead.close()


@pytest.mark.parametrize("order", [lambda: Batches(60, 8, 3, CPU), lambda: ShardedBatches(np.arange(60) // 10, 8, 3)])
def test_frames_are_drawn_anew_in_every_epoch_and_resume_alike(store, order):
    """Each batch is what the pipeline draws of its clips in that epoch; 7 batches are one."""
    drawn = Prepared(store, PYSKL)
    feed = Feed(drawn, order(), CPU)
    assert feed.resident is None and "drawn anew in every epoch: batches are made ahead" in feed.placement
    state = feed.state()
    batches = []
    for epoch in (0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1):
        batches.append((feed.next(), feed.state()))
        expected = pyskl(store, 10, 2, feed.index.numpy(), Sample(3, epoch))
        assert torch.equal(batches[-1][0], torch.from_numpy(expected))
    tested = drawn.rows(feed.index.numpy())
    assert torch.equal(tested, torch.from_numpy(pyskl(store, 10, 2, feed.index.numpy())))
    assert not torch.equal(tested, batches[-1][0])
    for done, begun in ((0, state), *((number + 1, batches[number][1]) for number in (3, 6, 8))):
        other = Feed(drawn, order(), CPU)
        other.next()
        other.load_state(begun)
        assert all(torch.equal(other.next(), batch) for batch, _ in batches[done:])
        other.close()
    feed.close()
    with pytest.raises(ValueError, match="Feed: resident must be off where clips are drawn anew in every epoch"):
        Feed(drawn, order(), CPU, resident=True)


def test_state_before_the_first_batch(prepared):
    for feed in feeds(prepared, lambda: Batches(60, 8, 3, CPU)):
        state = feed.state()
        first = feed.next()
        feed.load_state(state)
        assert torch.equal(feed.next(), first)
        feed.close()


def test_what_fits_is_measured_and_said(prepared, monkeypatch):
    wanted = 60 * 3 * 10 * 25 * 2 * 4
    for free, fits in ((2 * wanted, True), (2 * wanted - 1, False)):
        monkeypatch.setattr(feeding, "free_bytes", lambda device, free=free: free)
        feed = Feed(prepared, Batches(60, 8, 3, CPU), CPU)
        assert (feed.resident is not None) == fits
        assert "360 kB" in feed.placement and "720 kB" in feed.placement
        assert ("made ahead" in feed.placement) != fits
    # A tensor that is there takes no more memory, however little is left.
    monkeypatch.setattr(feeding, "free_bytes", lambda device: 0)
    clips = torch.zeros(60, 3, 10, 25, 2)
    assert Feed(clips, Batches(60, 8, 3, CPU), CPU).resident.data_ptr() == clips.data_ptr()


def test_free_memory_is_some(monkeypatch):
    assert 1e6 < feeding.free_bytes(CPU) < 1e14


def test_batches_are_made_while_the_device_computes(prepared):
    """Ten batches of 20 ms beside ten steps of 20 ms."""

    class Slow:
        shape, drawn = prepared.shape, False

        def rows(self, index, sample):
            time.sleep(0.02)
            return prepared.rows(index)

    feed = Feed(Slow(), Batches(60, 8, 3, CPU), CPU, resident=False)
    feed.next()
    begun = time.perf_counter()
    for _ in range(10):
        time.sleep(0.022)
        feed.next()
    assert time.perf_counter() - begun < 0.38
    feed.close()


def test_an_error_of_the_thread_comes_out_of_next(prepared):
    class Broken:
        shape, drawn = prepared.shape, False

        def rows(self, index, sample):
            if 13 in index:
                raise ValueError("Store: 'shard-00003/clips.npy': frames must be in [1, 16777216], got 0")
            return prepared.rows(index)

    feed = Feed(Broken(), Batches(60, 8, 3, CPU), CPU, resident=False)
    with pytest.raises(ValueError, match="shard-00003/clips.npy"):
        for _ in range(20):
            feed.next()
    with pytest.raises(ValueError, match="shard-00003/clips.npy"):
        feed.next()
    feed.close()


def readers():
    return [thread for thread in threading.enumerate() if thread.name == "asma.data.feed"]


def test_no_thread_is_left(prepared):
    feed = Feed(prepared, Batches(60, 8, 3, CPU), CPU, resident=False)
    feed.next()
    assert len(readers()) == 1
    feed.close()
    feed.close()
    assert readers() == []
    feed.next()  # goes on
    del feed
    gc.collect()
    assert readers() == []


CONFIG = PretrainConfig(
    data=DataConfig(frames=10, persons=2),
    views=ViewConfig(shear=0.3),
    masks=MaskConfig(joints=4, frames=3, extra_frames=2),
    encoder=EncoderConfig(channels=(4, 8), strides=(1, 2), kernel=3, dropout=0.3),
    projector=ProjectorConfig(width=16, lambd=5e-3),
    optimiser=OptimiserConfig(batch=8, steps=9, warmup=0.25),
    calibrate=True,
    checkpoint_every=4,
)


def weights(folder):
    return load_encoder(folder)[0].state_dict()


def interrupted_at(step, monkeypatch, *arguments, **options):
    """A run that is interrupted before it has done so many steps."""
    train_step = pretraining.Pretraining.train_step

    def interrupted(run):
        if run.step == step:
            raise KeyboardInterrupt
        return train_step(run)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pretraining.Pretraining, "train_step", interrupted)
        pretrain(*arguments, **options)


def test_pretraining_on_drawn_frames_goes_on_in_mid_epoch(tmp_path, store, monkeypatch):
    """Three steps are an epoch; the checkpoint that the run goes on from is of step 4."""
    found = {}
    for draw in (False, True):
        config = replace(CONFIG, data=replace(PYSKL, clips=str(store.path), draw=draw))
        split = open_split(config.data)
        pretrain(config, split.prepared, NTU, tmp_path / f"{draw}")
        found[draw] = weights(tmp_path / f"{draw}")
    interrupted_at(6, monkeypatch, config, split.prepared, NTU, tmp_path / "stopped")
    pretrain(config, split.prepared, NTU, tmp_path / "stopped", resume=True)
    resumed = weights(tmp_path / "stopped")
    assert all(torch.equal(found[True][key], resumed[key]) for key in resumed)
    assert not all(torch.equal(found[True][key], found[False][key]) for key in resumed)
    with pytest.raises(ValueError, match="data.draw needs data.pipeline ctrgcn or pyskl, got asma"):
        DataConfig(draw=True)


def test_pretraining_does_not_depend_on_where_the_clips_are(tmp_path, store, monkeypatch):
    config = replace(CONFIG, data=replace(CONFIG.data, clips=str(store.path)))
    said = []
    split = open_split(config.data)
    pretrain(config, split.train_x, NTU, tmp_path / "tensor")
    pretrain(config, split.prepared, NTU, tmp_path / "resident", say=said.append)
    monkeypatch.setattr(feeding, "free_bytes", lambda device: 0)
    interrupted_at(6, monkeypatch, config, split.prepared, NTU, tmp_path / "ahead", say=said.append)
    pretrain(config, split.prepared, NTU, tmp_path / "ahead", resume=True)
    gc.collect()
    assert ["made ahead" in text for text in said] == [False, True] and readers() == []
    for name in ("resident", "ahead"):
        for key, tensor in weights(tmp_path / "tensor").items():
            assert torch.equal(tensor, weights(tmp_path / name)[key]), (name, key)


@pytest.mark.parametrize("kind", ["finetune", "distill"])
def test_training_with_labels_does_not_depend_on_where_the_clips_are(kind, tmp_path, monkeypatch):
    common = {"optimiser": OptimiserConfig(batch=8, steps=7), "checkpoint_every": 3}

    def train(clips, folder, resume=False):
        if kind == "finetune":
            return finetune(classifiers.teacher(), clips, classifiers.LABELS, FinetuneConfig(**common), folder, resume)
        return distill(classifiers.teacher(), clips, DistillConfig(**common), folder, resume, classifiers.LABELS)

    whole = train(classifiers.X, tmp_path / "tensor")
    prepared = Prepared(classifiers.CLIPS, classifiers.DATA)
    classifiers.assert_same_weights(whole, train(prepared, tmp_path / "resident"))
    monkeypatch.setattr(feeding, "free_bytes", lambda device: 0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        classifiers.stop_in_step(patch, 6)
        train(prepared, tmp_path / "ahead")
    assert readers() == []
    classifiers.assert_same_weights(whole, train(prepared, tmp_path / "ahead", resume=True))
    assert readers() == []


@pytest.mark.parametrize("kind", ["finetune", "distill"])
def test_clips_that_are_made_when_asked_for_are_checked_before_anything_is_written(kind, tmp_path):
    class Broken:
        shape, drawn = (600, *classifiers.X.shape[1:]), False

        def rows(self, index, sample=None):
            clips = classifiers.X[torch.from_numpy(index % 24)]
            clips[index == 555, 0, 3] = torch.inf
            return clips

    with pytest.raises(ValueError, match=f"{kind}: clips must be finite, clip 555 is not"):
        if kind == "finetune":
            labels = torch.zeros(600, dtype=torch.int64)
            finetune(classifiers.teacher(), Broken(), labels, FinetuneConfig(), tmp_path / "run")
        else:
            distill(classifiers.teacher(), Broken(), DistillConfig(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_on_a_gpu_both_ways_give_the_same_batches(prepared):
    if not torch.cuda.is_available():
        pytest.skip("no GPU: pinned prefetch needs one")
    gpu = torch.device("cuda:0")
    resident, ahead = (Feed(prepared, Batches(60, 8, 3, CPU), gpu, resident) for resident in (True, False))
    for _ in range(30):
        one, two = resident.next(), ahead.next()
        assert one.device == two.device == gpu and torch.equal(one, two)
    state = ahead.state()
    expected = resident.next()
    ahead.load_state(state)
    assert torch.equal(ahead.next(), expected)
    ahead.close()
