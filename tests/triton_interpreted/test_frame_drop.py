import cases
import pytest
import torch

from asma_kernels import frame_drop, frame_mask, motion_energy, skeleton_view

RNG = torch.tensor([-7, 2**40 + 3])
LENGTHS = torch.tensor([19, 7, 0])
CALLS = [
    (5, "high", 0, None, True),
    (9, "low", 6, RNG, False, 1.0, 3, "copy_first", LENGTHS),
    (0, "high", 18, RNG.repeat_interleave(3)[::3], True, 2.0, 1, "zero_last", LENGTHS),
    (4, "high", 3, RNG, False, 1.5, 2, "copy_first", None),
]


def composed(x, drop, which, extra, rng, shared, *energy):
    frames = frame_mask(
        motion_energy(x, "frame", *energy, backend="triton"), drop, which, extra, rng, shared, backend="triton"
    )
    return skeleton_view(x, frames=frames, backend="triton"), frames


def check(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("call", CALLS, ids=range(len(CALLS)))
def test_equals_the_three_calls_and_the_reference(call, dtype):
    x = torch.randn(3, 3, 19, 35, 2, dtype=torch.float64).to(dtype)
    check(frame_drop(x, *call, backend="triton"), composed(x, *call))
    if call[5:6] != (1.5,):  # those powers are not exact; the mean of 32 small integers is
        x = torch.randint(-1, 2, (3, 4, 19, 4, 2)).to(dtype)
        check(frame_drop(x, *call, backend="triton"), frame_drop(x, *call, backend="reference"))


def test_any_strides():
    x = torch.randn(2, 3, 17, 5, 2)
    expected = composed(x, *CALLS[0])
    for layout in cases.layouts(x).values():
        check(frame_drop(layout, *CALLS[0], backend="triton"), expected)
    clip = x[:1].expand(3, -1, -1, -1, -1)
    check(frame_drop(clip, *CALLS[0], backend="triton"), frame_drop(clip, *CALLS[0], backend="cpu"))


@pytest.mark.parametrize(
    "shape", [(0, 3, 5, 4, 1), (2, 0, 5, 4, 1), (2, 3, 5, 0, 1), (2, 3, 5, 4, 0), (2, 3, 0, 4, 1), (2, 3, 1, 4, 1)]
)
def test_empty_axes(shape):
    x, drop = torch.ones(shape), 2 if shape[2] == 5 else 0
    check(frame_drop(x, drop, backend="triton"), frame_drop(x, drop, backend="reference"))


def test_nan_is_most_motion():
    x = torch.arange(6.0).view(1, 1, 6, 1, 1).clone()
    x[0, 0, 2] = float("nan")
    assert frame_drop(x, 2, backend="triton")[1].tolist() == [[0, 3, 4, 5]]
    assert frame_drop(x, 2, "low", backend="triton")[1].tolist() == [[0, 1, 2, 3]]


def test_gradient():
    x = torch.randn(3, 3, 19, 5, 2, dtype=torch.float64)
    call = CALLS[1]
    (grad,) = cases.gradients(lambda x: frame_drop(x, *call, backend="triton")[0], x)
    (expected,) = cases.gradients(lambda x: frame_drop(x, *call, backend="reference")[0], x)
    cases.assert_close(grad, expected, x.dtype)


def test_opcheck():
    x = torch.randn(2, 3, 7, 4, 1, requires_grad=True)
    op = torch.ops.asma_triton.frame_drop.default
    torch.library.opcheck(op, (x, 2, "low", 2, RNG, True, 2.0, 1, "zero_last", torch.tensor([7, 3])))


def test_compiled():
    shape = (2, 3, 8, 5, 1)
    cases.check_compiled(
        lambda x: frame_drop(x * 2, 3, backend="triton")[0] + 1, (torch.randn(shape),), (torch.randn(shape),)
    )


def test_more_than_a_program_holds_is_refused():
    with pytest.raises(ValueError, match="frame_drop: backend 'triton' takes at most 8192 frames, got T = 8193"):
        frame_drop(torch.zeros(1, 1, 8193, 1, 1), 1, backend="triton")
