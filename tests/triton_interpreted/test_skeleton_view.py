import itertools

import cases
import pytest
import torch

from asma_kernels import skeleton_view

N, C, T, V, M = 2, 3, 11, 14, 2
FRAMES = torch.tensor([[3, 3, -1, 10, 0], [7, 6, 5, -1, 2]])
JOINTS = torch.tensor([13, 0, -1, 5])


def check(dtype, *arguments):
    exact = torch.randn(N, C, T, V, M, dtype=torch.float64).to(dtype).double()
    view = skeleton_view(exact.to(dtype), *arguments, backend="triton")
    assert view.dtype == dtype
    cases.assert_close(view, skeleton_view(exact, *arguments, backend="reference"), dtype)


@pytest.mark.parametrize("dtype", cases.FLOATS)
def test_equals_the_reference(dtype):
    accumulate = torch.float64 if dtype == torch.float64 else torch.float32
    check(dtype, FRAMES, JOINTS, torch.randn(N, 5, C, dtype=accumulate), torch.randn(5, dtype=accumulate))


def test_each_argument_shared_or_of_its_own_or_left_out():
    matrix, offset = torch.randn(N, 5, C), torch.randn(N, 5)
    parts = ((None, FRAMES, FRAMES[0]), (None, JOINTS), (matrix, matrix[1]), (None, offset, offset[0]))
    for arguments in itertools.product(*parts):
        check(torch.float32, *arguments)


@pytest.mark.parametrize("dtype", cases.FLOATS)
def test_a_gather_copies_bit_for_bit(dtype):
    for x in cases.layouts(torch.randn(N, C, T, V, M, dtype=torch.float64).to(dtype)).values():
        for frames, joints in ((FRAMES, JOINTS), (None, JOINTS.expand(N, -1).contiguous()), (None, None)):
            expected = skeleton_view(x, frames, joints, backend="reference")
            assert torch.equal(skeleton_view(x, frames, joints, backend="triton"), expected)


def test_offset_alone():
    x, offset = torch.randn(N, C, T, V, M), torch.randn(N, C)
    expected = skeleton_view(x, FRAMES, None, None, offset, backend="reference")
    cases.assert_close(skeleton_view(x, FRAMES, None, None, offset, backend="triton"), expected, torch.float32)


@pytest.mark.parametrize("shape", [(0, 3, 5, 4, 1), (2, 0, 5, 4, 1), (2, 3, 0, 4, 1), (2, 3, 5, 4, 0)])
def test_empty_axes(shape):
    x, matrix, offset = torch.ones(shape), torch.ones(2, shape[1]), torch.ones(2)
    for frames in (None, torch.tensor([-1, -1])):
        expected = skeleton_view(x, frames, None, matrix, offset, backend="reference")
        assert torch.equal(skeleton_view(x, frames, None, matrix, offset, backend="triton"), expected)


def test_an_index_outside_is_not_followed():
    x = torch.ones(1, 1, 3, 1, 1)
    view = skeleton_view(x, torch.tensor([0, 10**9, -(10**9), 2]), backend="triton")
    assert view.flatten().tolist() == [1, 0, 0, 1]


def test_gradient():
    matrix, offset = torch.randn(N, 4, C, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    inputs = (torch.randn(N, C, T, V, M, dtype=torch.float64), matrix, offset)

    def run(backend):
        return lambda x, matrix, offset: skeleton_view(x, FRAMES, JOINTS, matrix, offset, backend=backend)

    for actual, expected in zip(
        cases.gradients(run("triton"), *inputs), cases.gradients(run("reference"), *inputs), strict=True
    ):
        cases.assert_close(actual, expected, torch.float64)


def test_opcheck():
    arguments = (torch.randn(N, C, T, V, M), FRAMES, JOINTS, torch.randn(C, C), None)
    torch.library.opcheck(torch.ops.asma_triton.skeleton_view.default, arguments)
