import itertools

import cases
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

import asma_kernels
from asma_kernels import motion_energy

REDUCE = ("frame", "joint", "frame_joint")
BOUNDARY = ("zero_last", "copy_first")


def by_hand(x, reduce, p, stride, boundary, length):
    """One clip (C, T, V, M), a loop over frames: the definition read aloud."""
    C, T, V, M = x.shape
    power = torch.zeros(T, V, dtype=torch.float64)
    for t in range(length):
        if length <= stride:
            break
        if boundary == "zero_last":
            if t + stride < length:
                power[t] = ((x[:, t + stride] - x[:, t]).abs() ** p).sum((0, 2))
        else:
            late = max(t, stride)
            power[t] = ((x[:, late] - x[:, late - stride]).abs() ** p).sum((0, 2))
    if reduce == "frame":
        return power.sum(1) / (C * V * M)
    if reduce == "joint":
        return power.sum(0) / max(C * length * M, 1)
    return power / (C * M)


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("boundary", BOUNDARY)
@pytest.mark.parametrize("reduce", REDUCE)
@pytest.mark.parametrize(("p", "stride"), [(2, 1), (1, 3), (1.5, 2), (2, 9)])
def test_is_the_definition(backend, reduce, boundary, p, stride):
    x = torch.randn(4, 3, 7, 5, 2, dtype=torch.float64)
    lengths = torch.tensor([7, 4, 1, 0])
    energy = motion_energy(x, reduce, p, stride, boundary, lengths, backend=backend)
    for clip in range(4):
        expected = by_hand(x[clip], reduce, p, stride, boundary, int(lengths[clip]))
        torch.testing.assert_close(energy[clip], expected)


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("reduce", REDUCE)
@pytest.mark.parametrize("shape", [(2, 3, 50, 25, 2), (1, 3, 2, 1, 1), (3, 2, 17, 33, 1)])
def test_forward_and_backward_equal_the_reference(dtype, reduce, shape):
    exact = torch.randn(shape, dtype=torch.float64).to(dtype).double()
    expected = motion_energy(exact, reduce, backend="reference")
    (expected_grad,) = cases.gradients(lambda x: motion_energy(x, reduce, backend="reference"), exact)
    for layout, x in cases.layouts(exact.to(dtype)).items():
        energy = motion_energy(x, reduce, backend="cpu")
        assert energy.dtype == dtype, layout
        cases.assert_close(energy, expected, dtype)
        (grad,) = cases.gradients(lambda x: motion_energy(x, reduce, backend="cpu"), x)
        cases.assert_close(grad, expected_grad, dtype)


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("shape", [(0, 3, 5, 4, 1), (2, 0, 5, 4, 1), (2, 3, 0, 4, 1), (2, 3, 5, 0, 1), (2, 3, 5, 4, 0)])
@pytest.mark.parametrize("reduce", REDUCE)
def test_empty_axes_give_zeros(backend, shape, reduce):
    x = torch.ones(shape, requires_grad=True)
    energy = motion_energy(x, reduce, backend=backend)
    assert torch.equal(energy, torch.zeros_like(energy))
    energy.sum().backward()
    assert x.grad.shape == x.shape


def test_expanded_input_and_its_gradient():
    clip = torch.randn(1, 3, 6, 5, 1, dtype=torch.float64)
    whole = clip.expand(4, 3, 6, 5, 2)
    torch.testing.assert_close(motion_energy(whole, "frame"), motion_energy(whole.contiguous(), "frame"))


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize(
    ("boundary", "p", "stride"), [("zero_last", 2, 1), ("copy_first", 1.5, 2), ("copy_first", 2, 1)]
)
@pytest.mark.parametrize("reduce", REDUCE)
def test_gradcheck(backend, reduce, boundary, p, stride):
    x = torch.randn(2, 2, 5, 3, 2, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([5, 3])
    assert gradcheck(lambda x: motion_energy(x, reduce, p, stride, boundary, lengths, backend=backend), (x,))


def test_opcheck_and_double_backward():
    x = torch.randn(2, 3, 5, 4, 1, requires_grad=True)
    cases.check_op("motion_energy", (x, "frame", 2.0, 1, "zero_last", torch.tensor([5, 3])))
    cases.check_op("motion_energy_backward", (torch.ones(2, 5), x.detach(), "frame", 2.0, 1, "zero_last", None))
    (grad,) = torch.autograd.grad(motion_energy(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="motion_energy: double backward is not implemented"):
        grad.sum().backward()


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_compiled(backend):
    cases.check_compiled(
        lambda x: motion_energy(x * 2, "joint", backend=backend).sqrt(),
        (torch.randn(2, 3, 8, 5, 1),),
        (torch.randn(2, 3, 8, 5, 1),),
    )


def test_threads_do_not_change_a_bit():
    x = torch.randn(37, 3, 50, 25, 2)
    cases.check_threads(lambda: motion_energy(x, "joint"))
    cases.check_concurrent(lambda: motion_energy(x, "frame"))


def test_autocast_keeps_the_coordinates_dtype():
    x = torch.randn(2, 3, 8, 5, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert motion_energy(x).dtype == torch.float32


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 5),
    shift=st.floats(-100, 100),
    reduce=st.sampled_from(REDUCE),
    boundary=st.sampled_from(BOUNDARY),
)
def test_moving_a_clip_as_a_whole_does_not_count(shape, shift, reduce, boundary):
    x = torch.randn(shape, dtype=torch.float64)
    for backend in cases.BACKENDS:
        energy = motion_energy(x, reduce, boundary=boundary, backend=backend)
        assert (energy >= 0).all()
        torch.testing.assert_close(motion_energy(x + shift, reduce, boundary=boundary, backend=backend), energy)
        torch.testing.assert_close(motion_energy(-2 * x, reduce, boundary=boundary, backend=backend), 4 * energy)


def test_nan_stays_where_it_is():
    x = torch.zeros(1, 3, 5, 4, 1)
    x[0, 0, 2, 1, 0] = float("nan")
    for backend in cases.BACKENDS:
        energy = motion_energy(x, "frame_joint", backend=backend)
        assert energy.isnan().nonzero().tolist() == [[0, 1, 1], [0, 2, 1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(3, 5, 4, 1)}, r"motion_energy: x must be \(N, C, T, V, M\), got shape \(3, 5, 4, 1\)"),
        ({"x": torch.zeros(1, 3, 5, 4, 1, dtype=torch.int64)}, "motion_energy: x must be float64"),
        ({"reduce": "joints"}, "motion_energy: reduce must be one of frame, joint, frame_joint, got 'joints'"),
        ({"boundary": "wrap"}, "motion_energy: boundary must be one of zero_last, copy_first, got 'wrap'"),
        ({"p": 0.5}, "motion_energy: p must be >= 1, got 0.5"),
        ({"p": float("nan")}, "motion_energy: p must be >= 1, got nan"),
        ({"stride": 0}, "motion_energy: stride must be >= 1, got 0"),
        ({"lengths": torch.tensor([1, 2])}, r"motion_energy: lengths must be \(N,\) = \(1,\), got \(2,\)"),
        ({"lengths": torch.tensor([1.0])}, "motion_energy: lengths must be torch.int64"),
    ],
)
def test_wrong_arguments_end_in_one_sentence(change, message):
    arguments = {"x": torch.zeros(1, 3, 5, 4, 1)} | change
    with pytest.raises((ValueError, TypeError), match=message):
        motion_energy(**arguments)


def test_a_backend_that_cannot_run_says_why():
    x = torch.zeros(1, 3, 5, 4, 1)
    with pytest.raises(
        RuntimeError, match="motion_energy: backend 'cuda' cannot run this call: its tensors are on cpu"
    ):
        motion_energy(x, backend="cuda")
    with pytest.raises(ValueError, match="motion_energy: backend must be one of"):
        motion_energy(x, backend="tpu")
    with asma_kernels.backend("reference"):
        assert torch.equal(motion_energy(x), torch.zeros(1, 5))


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize(
    "shape", [(2, 3, 9, 25, 2), (1, 3, 1, 5, 1), (3, 2, 40, 33, 1), (0, 3, 4, 5, 1), (2, 3, 4, 5, 0), (2, 3, 4, 0, 2)]
)
def test_cuda_kernels_on_the_cpu(emulated, shape, dtype):
    options = itertools.product(("frame", "joint", "frame_joint"), (2.0, 1.0, 1.5), (1, 3), ("zero_last", "copy_first"))
    exact = torch.randn(shape, dtype=torch.float64).to(dtype)
    lengths = torch.arange(shape[0]) * 4
    for (reduce, p, stride, boundary), length in itertools.product(options, (None, lengths)):
        arguments = (reduce, p, stride, boundary, length)
        expected = motion_energy(exact.double(), *arguments, backend="reference")
        grad = torch.randn(expected.shape, dtype=torch.float64).to(dtype)
        leaf = exact.double().requires_grad_()
        again = motion_energy(leaf, *arguments, backend="reference")
        (expected_grad,) = torch.autograd.grad(again, leaf, grad.double())
        for x in cases.layouts(exact).values():
            cases.assert_close(emulated.motion_energy(x, *arguments), expected, dtype)
            cases.assert_close(emulated.motion_energy_backward(grad, x, *arguments), expected_grad, dtype)
