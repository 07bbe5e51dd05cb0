import cases
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from asma_kernels import frame_drop, frame_mask, motion_energy, rng, skeleton_view
from asma_kernels.reference import frame_drop as reference

RNG = torch.tensor([-(2**60), 2**41 + 5])


def composed(x, drop, which="high", extra=0, state=None, shared=True, *energy, backend):
    """The definition: three calls."""
    frames = frame_mask(
        motion_energy(x, "frame", *energy, backend=backend), drop, which, extra, state, shared, backend=backend
    )
    return skeleton_view(x, frames=frames, backend=backend), frames


def check(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.is_contiguous()
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def small_integers(*shape):
    """Coordinates whose sums are exact in every dtype, in any order, and often equal."""
    return torch.randint(-1, 2, shape).double()


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_by_hand(backend):
    x = torch.tensor([[0.0, 1.0, 5.0, 6.0, 6.0], [0.0, 0.0, 1.0, 1.0, 3.0]]).view(2, 1, 5, 1, 1)  # energies:
    # 1 16 1 0 0 and 0 1 0 4 0; the last frame has none
    kept, frames = frame_drop(x, 2, backend=backend)
    assert frames.tolist() == [[0, 3, 4], [0, 2, 4]]
    assert kept.view(2, 3).tolist() == [[0, 6, 6], [0, 1, 3]]
    kept, frames = frame_drop(x, 2, "low", backend=backend)
    assert frames.tolist() == [[0, 1, 2], [0, 1, 3]]
    assert kept.view(2, 3).tolist() == [[0, 1, 5], [0, 0, 1]]


@settings(max_examples=80, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(1, 40), st.integers(0, 5), st.integers(0, 3)),
    which=st.sampled_from(["high", "low"]),
    shared=st.booleans(),
    p=st.sampled_from([1.0, 2.0, 1.5]),
    stride=st.integers(1, 4),
    boundary=st.sampled_from(["zero_last", "copy_first"]),
    dtype=st.sampled_from(cases.FLOATS),
    data=st.data(),
)
def test_equals_the_three_calls(shape, which, shared, p, stride, boundary, dtype, data):
    T = shape[2]
    drop = data.draw(st.integers(0, T - 1))
    extra = data.draw(st.integers(0, T - drop - 1))
    lengths = data.draw(st.sampled_from([None, torch.arange(shape[0]) * 7]))
    state = torch.tensor([data.draw(st.integers(-(2**63), 2**63 - 1)), 3])
    call = (drop, which, extra, state, shared, p, stride, boundary, lengths)
    for x in (torch.randn(shape, dtype=torch.float64).to(dtype), small_integers(*shape).to(dtype)):
        for backend in cases.BACKENDS:
            check(frame_drop(x, *call, backend=backend), composed(x, *call, backend=backend))


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("shape", [(9, 3, 50, 25, 2), (2, 3, 2, 1, 1), (3, 2, 17, 33, 1), (5, 3, 300, 25, 2)])
def test_every_layout_equals_the_reference(dtype, shape):
    exact = small_integers(*shape).to(dtype)
    T = shape[2]
    call = (T // 3, "high", T // 4, RNG, False)
    expected = frame_drop(exact, *call, backend="reference")
    for x in cases.layouts(exact).values():
        check(frame_drop(x, *call, backend="cpu"), expected)
    clip = exact[:1].expand(shape)
    check(frame_drop(clip, *call, backend="cpu"), frame_drop(clip, *call, backend="reference"))


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_example_of_pstl(backend):
    x = torch.randn(128, 3, 50, 25, 2).cumsum(2)
    kept, frames = frame_drop(x, 10, extra=10, rng=rng.seed_tensor(3), backend=backend)
    assert kept.shape == (128, 3, 30, 25, 2)
    assert (frames.diff(dim=1) > 0).all()
    for n in (0, 77, 127):
        assert torch.equal(kept[n], x[n][:, frames[n]])


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("shape", [(0, 3, 5, 4, 1), (2, 0, 5, 4, 1), (2, 3, 5, 0, 1), (2, 3, 5, 4, 0)])
def test_empty_axes(backend, shape):
    x = torch.ones(shape, requires_grad=True)
    kept, frames = frame_drop(x, 2, backend=backend)
    assert kept.shape == (*shape[:2], 3, *shape[3:])
    assert frames.tolist() == [[0, 1, 2]] * shape[0]
    kept.sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_no_frames_and_nothing_to_remove(backend):
    kept, frames = frame_drop(torch.ones(2, 3, 0, 4, 1), 0, backend=backend)
    assert (kept.shape, frames.shape) == ((2, 3, 0, 4, 1), (2, 0))
    x = torch.randn(2, 3, 5, 4, 1)
    kept, frames = frame_drop(x, 0, backend=backend)
    assert torch.equal(kept, x)
    assert frames.tolist() == [[0, 1, 2, 3, 4]] * 2


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_nan_is_most_motion_and_is_copied_as_it_is(backend):
    x = torch.arange(6.0).view(1, 1, 6, 1, 1).clone()
    x[0, 0, 2] = float("nan")
    assert frame_drop(x, 2, backend=backend)[1].tolist() == [[0, 3, 4, 5]]
    kept, frames = frame_drop(x, 2, "low", backend=backend)
    assert frames.tolist() == [[0, 1, 2, 3]]
    assert kept.isnan().flatten().tolist() == [False, False, True, False]


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_gradcheck(backend):
    x = torch.randn(2, 2, 7, 3, 2, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([7, 4])
    call = (2, "low", 2, RNG, False, 1.5, 2, "copy_first", lengths)
    assert gradcheck(lambda x: frame_drop(x, *call, backend=backend)[0], (x,))


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_gradient_goes_to_the_kept_frames_alone(backend, recwarn):
    x = torch.randn(3, 3, 9, 4, 2, requires_grad=True)
    kept, frames = frame_drop(x, 2, extra=3, rng=RNG, shared=False, backend=backend)
    assert kept.requires_grad and not frames.requires_grad
    kept.sum().backward()
    stays = torch.zeros(3, 9).scatter_(1, frames, 1)
    assert torch.equal(x.grad, stays[:, None, :, None, None].expand(x.shape))
    assert not recwarn.list


def test_opcheck_and_double_backward():
    x = torch.randn(2, 3, 7, 4, 1, requires_grad=True)
    cases.check_op("frame_drop", (x, 2, "low", 0, None, True, 2.0, 1, "zero_last", None))
    lengths = torch.tensor([7, 3])
    cases.check_op(
        "frame_drop", (x.detach().to(torch.bfloat16), 2, "high", 3, RNG, False, 1.5, 2, "copy_first", lengths)
    )
    (grad,) = torch.autograd.grad(frame_drop(x, 2)[0].square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward is not implemented"):
        grad.sum().backward()


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_compiled(backend):
    def moved(x, state):
        kept, frames = frame_drop(x * 2, 3, "high", 2, state, False, backend=backend)
        return kept + frames[:, None, :, None, None]

    shape = (4, 3, 11, 5, 2)
    cases.check_compiled(
        moved, (torch.randn(shape), rng.seed_tensor(1)), (torch.randn(shape), rng.seed_tensor(2, call=3))
    )


def test_compiled_for_any_batch():
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: frame_drop(x, 3, "low"), fullgraph=True, dynamic=True, backend="eager")
    for n in (3, 4, 9):
        x = torch.randn(n, 3, 12, 5, 1)
        check(compiled(x), frame_drop(x, 3, "low"))


def test_threads_do_not_change_a_bit():
    x, state = torch.randn(300, 3, 50, 25, 2), rng.seed_tensor(4)
    cases.check_threads(lambda: frame_drop(x, 10, "high", 10, state, False)[0])
    cases.check_concurrent(lambda: frame_drop(x, 10, "low", 10, state, True)[1])


def test_autocast_keeps_the_coordinates_dtype():
    x = torch.randn(2, 3, 8, 5, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(frame_drop(x, 2)[0], composed(x, 2, backend="cpu")[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(3, 5, 4, 1)}, r"x must be \(N, C, T, V, M\), got shape \(3, 5, 4, 1\)"),
        ({"x": torch.zeros(1, 3, 50, 4, 1, dtype=torch.int64)}, "x must be float64.*got torch.int64"),
        ({"drop": 50}, r"drop must be in \[0, T\), got 50 with T = 50"),
        ({"drop": -1}, r"drop must be in \[0, T\), got -1 with T = 50"),
        ({"which": "most"}, "which must be one of high, low, got 'most'"),
        ({"extra": 40}, r"extra must be in \[0, T - drop\), got 40 with T = 50 and drop = 10"),
        ({"extra": -1}, r"extra must be in \[0, T - drop\), got -1"),
        ({"extra": 3, "rng": None}, "rng must be given with extra > 0, got None with extra = 3"),
        ({"rng": torch.tensor([1])}, r"rng must be \[seed, call\], got shape \(1,\)"),
        ({"rng": torch.tensor([1.0, 2.0])}, "rng must be torch.int64"),
        ({"rng": torch.zeros(2, dtype=torch.int64, device="meta")}, "rng must be on cpu, got meta"),
        ({"boundary": "wrap"}, "boundary must be one of zero_last, copy_first, got 'wrap'"),
        ({"p": 0.5}, "p must be >= 1, got 0.5"),
        ({"p": float("nan")}, "p must be >= 1, got nan"),
        ({"stride": 0}, "stride must be >= 1, got 0"),
        ({"lengths": torch.tensor([1, 2])}, r"lengths must be \(N,\) = \(1,\), got \(2,\)"),
        ({"lengths": torch.tensor([1.0])}, "lengths must be torch.int64"),
        ({"lengths": torch.zeros(1, dtype=torch.int64, device="meta")}, "lengths must be on cpu, got meta"),
        ({"backend": "tpu"}, "backend must be one of"),
    ],
)
def test_wrong_arguments_end_in_one_sentence(change, message):
    arguments = {"x": torch.zeros(1, 3, 50, 4, 1), "drop": 10, "rng": torch.tensor([0, 0])} | change
    with pytest.raises((ValueError, TypeError), match="frame_drop: " + message):
        frame_drop(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(5)}, r"x \(N, C, T, V, M\) must have 5 axes, got 1"),
        ({"x": torch.zeros(1, 1, 5, 1, 1, dtype=torch.int32)}, "dtype must be float64"),
        ({"drop": 6}, "drop and extra must be >= 0 and at most T together"),
        ({"drop": -1}, "drop and extra must be >= 0"),
        ({"extra": 4, "rng": torch.tensor([0, 0])}, "drop and extra must be >= 0"),
        ({"which": "most"}, "which must be high or low"),
        ({"extra": 1}, "rng must be given with extra > 0"),
        ({"extra": 1, "rng": torch.tensor([1])}, r"rng must be int64 \[seed, call\]"),
        ({"p": 0.5}, "p must be >= 1"),
        ({"stride": 0}, "stride must be >= 1"),
        ({"boundary": "wrap"}, "boundary must be zero_last or copy_first"),
        ({"lengths": torch.tensor([1, 2])}, r"lengths must be \(N,\) with N = 1"),
        ({"lengths": torch.tensor([1.0])}, "lengths must be int64"),
    ],
)
def test_the_op_called_directly_checks_as_well(change, message):
    arguments = {"x": torch.zeros(1, 1, 5, 1, 1), "drop": 2, "which": "high", "extra": 0, "rng": None, "shared": True}
    arguments |= {"p": 2.0, "stride": 1, "boundary": "zero_last", "lengths": None}
    with pytest.raises(RuntimeError, match="frame_drop: " + message):
        torch.ops.asma.frame_drop(**arguments | change)


def emulated_calls(T, N):
    lengths = torch.arange(N) * (T // 2)
    return [
        (T // 5, "high", 0, None, True, 2.0, 1, "zero_last", None),
        (T // 3, "low", T // 3, RNG.repeat_interleave(3)[::3], False, 1.0, 3, "copy_first", lengths),
        (0, "high", T // 2, RNG, True, 1.5, 2, "zero_last", lengths),
        (T - T // 4, "low", T // 4, RNG, True, 2.0, 1, "copy_first", None),
    ]


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize(
    "shape",
    [
        (3, 3, 50, 25, 2), (2, 2, 65, 7, 1), (1, 3, 130, 1, 1), (1, 1, 520, 2, 1), (2, 1, 1030, 1, 1),
        (2, 3, 9, 300, 2), (2, 3, 1, 5, 1), (0, 3, 4, 5, 1), (2, 0, 4, 5, 1), (2, 3, 0, 5, 1), (2, 3, 4, 0, 2),
        (2, 3, 4, 5, 0),
    ],
)  # fmt: skip
def test_cuda_kernels_on_the_cpu(emulated, shape, dtype):
    x, exact = torch.randn(shape, dtype=torch.float64).to(dtype), small_integers(*shape).to(dtype)
    for drop, which, extra, state, shared, *energy in emulated_calls(shape[2], shape[0]):
        mask = (drop, which, extra, state, shared)
        frames = emulated.frame_mask(emulated.motion_energy(x, "frame", *energy), *mask)
        expected = emulated.skeleton_view(x, frames, None, None, None), frames
        check(emulated.frame_drop(x, *mask, *energy), expected)
        if energy[0] != 1.5:  # those powers are not exact
            check(emulated.frame_drop(exact, *mask, *energy), reference.frame_drop(exact, *mask, *energy))
    for turned in cases.layouts(x).values():
        check(emulated.frame_drop(turned, *mask, *energy), expected)


def test_cuda_kernels_go_on_to_further_clips(emulated):
    x, call = small_integers(2100, 1, 3, 1, 1), (1, "low", 1, RNG, False, 2.0, 1, "zero_last", None)
    check(emulated.frame_drop(x, *call), frame_drop(x, *call, backend="reference"))  # more than 2048 blocks
