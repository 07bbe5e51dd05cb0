"""skeleton_view's CUDA kernels, run on the CPU."""

import cases
import pytest
import torch
from test_skeleton_view import KINDS, picks

import asma_kernels.ops.skeleton_view as rooms
from asma_kernels.reference import skeleton_view as reference

LAYOUTS = tuple(cases.layouts(torch.zeros(1, 1, 1, 1, 1)))


def check_emulated(emulated, x, frames, joints, matrix, offset, layouts=LAYOUTS):
    """Forward and backward of the CUDA kernels against the reference in float64."""
    dtype, given = x.dtype, (*x.shape[2:4], frames, joints)
    small = [None if t is None else t.to(torch.promote_types(dtype, torch.float32)) for t in (matrix, offset)]
    exact = [None if t is None else t.double() for t in small]
    expected = reference.skeleton_view(x.double(), frames, joints, *exact)
    grad = torch.randn_like(expected).to(dtype)
    shared = [t is None or t.dim() == axes for t, axes in zip(small, (2, 1), strict=True)]
    gradients = rooms._reference_backward(grad.double(), x.double(), *given, exact[0], True, *shared)
    for layout in [cases.layouts(x)[name] for name in layouts]:
        cases.assert_close(emulated.skeleton_view(layout, frames, joints, *small), expected, dtype)
        actual = emulated.skeleton_view_backward(grad, layout, *given, small[0], True, *shared)
        for gradient, wanted in zip(actual, gradients, strict=True):
            size = max(1.0, wanted.abs().max().item()) if wanted.numel() else 1.0
            cases.assert_close(gradient / size, wanted / size, dtype)


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("shape", "C_out"),  # also: a frame wider than a block, more frames than a block takes, other coordinates
    [((2, 3, 9, 25, 2), 3), ((1, 3, 3, 150, 2), 3), ((2, 3, 70, 1, 1), 3), ((2, 2, 5, 4, 3), 4)],
)
def test_cuda_kernels_on_the_cpu(emulated, shape, C_out, kind, dtype):
    N, C = shape[:2]
    x = torch.randn(shape, dtype=torch.float64).to(dtype)
    maps = [(torch.randn(N, C_out, C), torch.randn(C_out)), (torch.randn(C_out, C), torch.randn(N, C_out))]
    for matrix, offset in maps + [(None, torch.randn(C)), (None, None)] * (C_out == C):
        check_emulated(emulated, x, *picks(shape, kind), matrix, offset)


@pytest.mark.parametrize("C", [3, 2])
@pytest.mark.parametrize("shape", [(0, 4, 5, 1), (2, 0, 5, 1), (2, 4, 0, 1), (2, 4, 5, 0)])
def test_cuda_kernels_on_empty_axes(emulated, shape, C):
    N, T, V, M = shape
    x, frames, joints = torch.randn(N, C, T, V, M), torch.full((3,), -1), torch.full((2,), -1)
    check_emulated(emulated, x, frames, joints, torch.randn(N, C, C), torch.randn(C))
    check_emulated(emulated, x, frames[:0], joints[:0], torch.randn(C, C), torch.randn(N, C))
    check_emulated(emulated, x, None, None, torch.randn(N, C, C), torch.randn(N, C))


@pytest.mark.parametrize("C", [3, 2])
def test_cuda_kernels_on_more_clips_than_blocks(emulated, C):
    N = 1030
    x, frames = torch.randn(N, C, 1, 2, 1), torch.randint(-1, 1, (N, 2))
    check_emulated(emulated, x, frames, None, torch.randn(N, C, C), torch.randn(C), layouts=["turned"])


@pytest.mark.parametrize("C", [3, 2])
def test_cuda_kernels_on_more_picks_than_are_listed_at_once(emulated, C):
    frames, joints = torch.randint(-1, 2, (1500,)), torch.randint(-1, 3, (300,))
    x = torch.randn(1, C, 2, 3, 1)
    check_emulated(emulated, x, frames, joints, torch.randn(C, C), torch.randn(C), layouts=["turned"])


def test_cuda_kernels_read_only_what_is_picked(emulated):
    x = torch.full((1, 3, 4, 3, 2), float("nan"))
    x[:, :, 1, 1] = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, float("inf")]])
    frames, joints = torch.tensor([1, -1, 4, 2**63 - 1]), torch.tensor([3, 1, -(2**63)])  # outside is absent
    for offset in (None, torch.zeros(3)):
        view = emulated.skeleton_view(x, frames, joints, None, offset)
        assert torch.equal(view[0, :, 0, 1], x[0, :, 1, 1]) and torch.count_nonzero(view) == 6
    grad = torch.full_like(view, float("inf"))
    grad[:, :, 0, 1] = 1
    gradients = emulated.skeleton_view_backward(grad, x, 4, 3, frames, joints, 2 * torch.eye(3), True, True, True)
    grad_x, grad_matrix, grad_offset = gradients
    assert torch.equal(grad_x[0, :, 1, 1], torch.full((3, 2), 2.0)) and torch.count_nonzero(grad_x) == 6
    assert torch.equal(grad_matrix, torch.tensor([3.0, 7, float("inf")]).expand(3, 3))
    assert torch.equal(grad_offset, torch.full((3,), 2.0))
    bits = torch.randint(-(2**31), 2**31 - 1, (2, 3, 5, 4, 2), dtype=torch.int32)
    assert torch.equal(emulated.skeleton_view(bits.view(torch.float32), None, None, None, None).view(torch.int32), bits)
