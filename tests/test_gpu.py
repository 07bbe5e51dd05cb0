"""Every op on a GPU against the float64 reference on the CPU, and what only a GPU shows: streams, graphs, no waiting.

Skipped without a GPU; with ASMA_GPU=required, as `make gpu` sets it, a missing GPU fails instead.
"""

import itertools
import os
from dataclasses import replace

import cases
import pytest
import torch

import asma_kernels as ak
from asma.config import PRESETS, EncoderConfig, OptimiserConfig, ProjectorConfig
from asma.pretrain import Pretraining
from asma_kernels import Skeleton, SparseGraph, draws
from asma_kernels._library import KERNELS

REQUIRED = os.environ.get("ASMA_GPU") == "required"
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available() and not REQUIRED, reason="this machine has no GPU")

SKELETON = Skeleton.builtin("ntu25")
GRAPH = SparseGraph.from_dense(SKELETON.partition("spatial").to(torch.bfloat16))  # the same numbers in every dtype
SEED = (7, 3)


class Place:
    """Puts the inputs of a call somewhere, floating ones in a dtype, and takes gradients there."""

    def __init__(self, device: str, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.generator = torch.Generator().manual_seed(0)

    def random(self, *shape: int) -> torch.Tensor:
        # Rounded first, so that every place and dtype gets the same numbers.
        numbers = torch.randn(shape, generator=self.generator).to(torch.bfloat16)
        return numbers.to(self.device, self.dtype)

    def rng(self) -> torch.Tensor:
        return torch.tensor(SEED, device=self.device)

    def put(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.device)

    def with_gradients(self, function, *inputs: torch.Tensor) -> list[torch.Tensor]:
        return [function(*inputs), *cases.gradients(function, *inputs)]


def philox(place: Place) -> list[torch.Tensor]:
    return [ak.philox(place.rng(), 300, 70)]


def motion_energy(place: Place) -> list[torch.Tensor]:
    x, lengths = place.random(9, 3, 33, 25, 2), place.put(torch.arange(9) * 4)
    found = []
    for reduce in ("frame", "joint", "frame_joint"):
        found += place.with_gradients(lambda x, reduce=reduce: ak.motion_energy(x, reduce, lengths=lengths), x)
        found += place.with_gradients(lambda x, reduce=reduce: ak.motion_energy(x, reduce), x.transpose(2, 3))
    return found


def joint_mask(place: Place) -> list[torch.Tensor]:
    weights = place.put(ak.high_degree_weights(SKELETON.degrees))
    calls = [("fixed", True), ("fixed", False), ("tokens", False), ("deterministic", True)]
    return [
        out for mode, shared in calls for out in ak.joint_mask(weights, 8, 200, place.rng(), mode=mode, shared=shared)
    ]


def frame_mask(place: Place) -> list[torch.Tensor]:
    energy = place.random(40, 300).abs()
    return [
        ak.frame_mask(energy, 60, which, extra, place.rng(), shared=shared)
        for which, extra, shared in (("high", 0, True), ("low", 30, True), ("high", 30, False))
    ]


def frame_drop(place: Place) -> list[torch.Tensor]:
    # The mean of 32 small integers is exact in every dtype.
    x, lengths = place.random(40, 4, 60, 4, 2).round().clamp(-1, 1), place.put(torch.arange(40) + 21)
    found = []
    for which, extra, shared in (("high", 0, True), ("low", 9, True), ("high", 9, False)):
        call = (12, which, extra, place.rng(), shared)
        found += place.with_gradients(lambda x, call=call: ak.frame_drop(x, *call, lengths=lengths)[0], x)
        found.append(ak.frame_drop(x.transpose(3, 4), 12, which)[1])
    return found


def token_mask(place: Place) -> list[torch.Tensor]:
    score, noise = place.random(20, 150).abs(), place.random(20, 150)
    return list(ak.token_mask(score, 30, noise=noise))


def view_draw(place: Place) -> list[torch.Tensor]:
    return [out for out in draws.Views.of(SKELETON, place.device).draw(place.rng(), 50, 40) if out is not None]


def skeleton_view(place: Place) -> list[torch.Tensor]:
    x, matrix, offset = place.random(8, 3, 30, 25, 2), place.random(8, 3, 3), place.random(8, 3)
    frames = place.put(torch.randint(-1, 30, (8, 20), generator=torch.Generator().manual_seed(1)))
    joints = place.put(torch.randint(-1, 25, (8, 17), generator=torch.Generator().manual_seed(2)))
    return place.with_gradients(
        lambda *inputs: ak.skeleton_view(inputs[0], frames, joints, *inputs[1:]), x, matrix, offset
    )


def graph_conv(place: Place) -> list[torch.Tensor]:
    placed = GRAPH._replace(values=GRAPH.values.to(place.device, place.dtype), edges=place.put(GRAPH.edges))
    x, joints = place.random(4, 16, 20, 25), place.put(torch.arange(0, 25, 2))
    found = []
    for order, rows in (("pre", 3 * 32), ("post", 32)):
        weight = place.random(rows, 16 if order == "pre" else 48, 1, 1)
        bias, importance = place.random(rows), place.random(3, 25, 25).abs()

        def sparse(x, weight, bias, importance, order=order):
            return ak.graph_conv(x, placed.weighted(importance), weight, bias, order=order)

        def dense(x, weight, bias, importance, order=order):
            return ak.graph_conv(x[..., joints], importance, weight, bias, order=order, joints=joints)

        for function in (sparse, dense):
            found += place.with_gradients(function, x, weight, bias, importance)
    return found


def stgcn_block(place: Place) -> list[torch.Tensor]:
    graph = GRAPH._replace(values=GRAPH.values.to(place.device, place.dtype), edges=place.put(GRAPH.edges))
    found = []
    for C, stride, joints in ((16, 1, None), (8, 2, place.put(torch.arange(0, 25, 2)))):
        x = place.random(4, C, 13, 25 if joints is None else 13)
        leaves = [place.random(*shape) for shape in ((48, C), (48,), (16,), (16,), (16, 16, 9, 1), (16,), (16,), (16,))]
        shortcut = [place.random(*shape) for shape in ((16, C, 1, 1), (16,), (16,), (16,))] if stride == 2 else []

        def block(x, *given, stride=stride, joints=joints):
            pairs = [*zip(given[::2], given[1::2], strict=True)]
            return ak.stgcn_block(
                x, graph, *pairs[:4], shortcut=pairs[4] if stride == 2 else None,
                norm3=pairs[5] if stride == 2 else None, identity=stride == 1, joints=joints, stride=stride,
                dropout=0.25, rng=place.rng(),
            ).out  # fmt: skip

        found += place.with_gradients(block, x, *leaves, *shortcut)
    return found


def barlow_twins(place: Place) -> list[torch.Tensor]:
    return place.with_gradients(ak.barlow_twins, place.random(32, 200), place.random(32, 200))


CALLS = {
    call.__name__: call
    for call in (
        philox, motion_energy, joint_mask, frame_mask, frame_drop, token_mask, view_draw, skeleton_view, graph_conv,
        stgcn_block, barlow_twins,
    )
}  # fmt: skip
LOOSER = {"stgcn_block": 10}
"""Times the tolerance, for a chain of norms and products whose every step is rounded to the dtype."""


def places():
    """(op, device, backend, dtype) of every kernel."""
    for op, dtype in itertools.product(CALLS, cases.FLOATS):
        name = f"{op}-{str(dtype).removeprefix('torch.')}"
        yield pytest.param(op, "cpu", "auto", dtype, id=f"{name}-cpu")
        if (op, "cuda") in KERNELS:
            yield pytest.param(op, "cuda", "cuda", dtype, id=f"{name}-cuda", marks=needs_gpu)
        if dtype != torch.float64 or op != "stgcn_block":
            yield pytest.param(op, "cuda", "triton", dtype, id=f"{name}-triton", marks=needs_gpu)


@pytest.mark.parametrize(("op", "device", "backend", "dtype"), list(places()))
def test_agrees_with_the_reference(op, device, backend, dtype):
    with ak.backend("reference"):
        expected = CALLS[op](Place("cpu", torch.float64))
    with ak.backend(backend):
        results = CALLS[op](Place(device, dtype))
    for actual, wanted in zip(results, expected, strict=True):
        if wanted.is_floating_point():
            # Sums over clips and frames grow with their length: the tolerance is of the largest number.
            scale = wanted.abs().max().clamp(min=1) * LOOSER.get(op, 1)
            drawn = actual.dtype if dtype == torch.float64 else dtype  # view_draw's matrices are float32 always
            if op == "stgcn_block" and dtype.itemsize == 2:
                # What is kept between its steps is rounded: numbers at a ReLU's corner fall on either side of it.
                error = (actual.cpu().double() - wanted).abs().mean() / wanted.abs().max().clamp(min=1)
                assert error <= cases.TOLERANCE[drawn]["atol"] * LOOSER[op]
                continue
            cases.assert_close(actual.cpu() / scale, wanted / scale, drawn)
        else:
            assert torch.equal(actual.cpu(), wanted)


def masked_view(x: torch.Tensor, rng: torch.Tensor) -> torch.Tensor:
    kept = ak.frame_mask(ak.motion_energy(x, backend="cuda"), 10, "high", 10, rng, backend="cuda")
    return ak.skeleton_view(x, frames=kept, backend="cuda")


@needs_gpu
def test_nothing_waits_for_the_device():
    place = Place("cuda", torch.float32)
    x, rng = place.random(64, 3, 50, 25, 2), place.rng()
    expected = masked_view(x, rng)
    torch.cuda.set_sync_debug_mode("error")
    try:
        actual = masked_view(x, rng)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(actual, expected)


@needs_gpu
def test_runs_on_the_current_stream():
    place = Place("cuda", torch.float32)
    x, rng = place.random(64, 3, 50, 25, 2), place.rng()
    expected = masked_view(x, rng)
    late = torch.zeros_like(x)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # the copy comes late; what runs elsewhere reads zeros
        late.copy_(x)
        actual = masked_view(late, rng)
    stream.synchronize()
    assert torch.equal(actual, expected)


@needs_gpu
def test_a_captured_graph_reads_new_inputs_and_draws_anew():
    place = Place("cuda", torch.float32)
    x, stream = place.random(64, 3, 50, 25, 2), ak.rng.Draws(seed=3, device="cuda")
    masked_view(x, stream.next())
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = masked_view(x, stream.next())
    for _ in range(3):
        x.copy_(place.random(64, 3, 50, 25, 2))
        state = stream.state.clone()
        graph.replay()
        assert torch.equal(out, masked_view(x, state))
        assert torch.equal(stream.state, state + torch.tensor([0, 1], device="cuda"))


@needs_gpu
def test_compiled_with_cuda_graphs():
    place = Place("cuda", torch.float32)
    x, rng = place.random(64, 3, 50, 25, 2), place.rng()
    compiled = torch.compile(masked_view, fullgraph=True, mode="reduce-overhead")
    for _ in range(3):
        assert torch.equal(compiled(x, rng), masked_view(x, rng))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="this machine has no second GPU")
def test_runs_on_the_device_of_its_tensors():
    x = torch.randn(8, 3, 30, 25, 2)
    with ak.backend("cuda"):
        assert torch.equal(ak.motion_energy(x.to("cuda:1")).cpu(), ak.motion_energy(x.to("cuda:0")).cpu())


def losses(steps: int, device: str, **changed: object) -> torch.Tensor:
    """Of a small pretraining's first steps."""
    encoder = EncoderConfig(channels=(16, 16, 32), strides=(1, 2, 1), dropout=0.0)
    small = replace(
        PRESETS["asma"], encoder=encoder, projector=ProjectorConfig(width=64), device=device,
        optimiser=OptimiserConfig(lr=1e-3, batch=8, steps=steps), **changed,
    )  # fmt: skip
    clips = torch.randn(32, 3, 50, 25, 2, generator=torch.Generator().manual_seed(0))
    run = Pretraining(small, clips, SKELETON)
    run.encoder.train()
    return torch.stack([run.train_step()["loss"] for _ in range(steps)]).cpu()


@needs_gpu
def test_a_training_step_by_the_kernels_and_as_one_graph_is_the_same_step():
    expected = losses(6, "cuda")
    with ak.backend("triton"):
        torch.testing.assert_close(losses(6, "cuda"), expected, rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(losses(6, "cuda", cuda_graph=True), expected, rtol=1e-2, atol=1e-2)


def test_the_training_step_of_the_test_above_learns():
    found = losses(24, "cpu")
    assert found[-6:].mean() < found[:6].mean()
