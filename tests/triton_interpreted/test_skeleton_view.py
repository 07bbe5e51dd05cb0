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


# Frames and joints that repeat, are absent, are left out or, on a GPU, outside.
PICKS = [(None, None), (FRAMES, JOINTS), (FRAMES[0], None), (None, JOINTS.expand(N, -1)), (FRAMES[:, :0], JOINTS)]


def check_gradients(dtype, x, frames, joints, matrix, offset):
    given = [part for part in (matrix, offset) if part is not None]
    accumulate = torch.float64 if dtype == torch.float64 else torch.float32

    inputs = (x, *(part.to(accumulate) for part in given))
    weight = torch.randn_like(skeleton_view(x, frames, joints, matrix, offset, backend="reference"))

    def gradients(backend, *inputs):
        x, *rest = leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        pieces = [None if part is None else rest.pop(0) for part in (matrix, offset)]
        view = skeleton_view(x, frames, joints, *pieces, backend=backend)
        return torch.autograd.grad(view, leaves, weight.to(view.dtype))

    actual = gradients("triton", *inputs)
    assert [grad.dtype for grad in actual] == [dtype] + [accumulate] * len(given)
    for one, other in zip(actual, gradients("reference", *(tensor.double() for tensor in inputs)), strict=True):
        cases.assert_close(one, other, dtype)


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("picks", PICKS)
def test_gradients(dtype, picks):
    x = torch.randn(N, C, T, V, M, dtype=torch.float64).to(dtype)
    check_gradients(dtype, x, *picks, torch.randn(N, 5, C), torch.randn(5))
    check_gradients(dtype, x, *picks, None, None)


def test_gradients_of_each_argument_shared_or_of_its_own_or_left_out():
    matrix, offset = torch.randn(N, C, C), torch.randn(N, C)
    for x in (torch.randn(N, C, T, V, M), cases.layouts(torch.randn(N, C, T, V, M))["turned"]):
        for parts in itertools.product((None, matrix, matrix[1]), (None, offset, offset[0])):
            check_gradients(torch.float32, x, FRAMES, JOINTS, *parts)


def test_gradient_of_many_places_and_joints_that_repeat():
    x = torch.randn(1, 5, 40, 20, 2, dtype=torch.float64)
    frames, joints = torch.randint(-1, 40, (150,)), torch.randint(-1, 20, (1, 33))
    check_gradients(torch.float64, x, frames, joints, torch.randn(2, 5), torch.randn(2))


def test_gradient_of_an_expanded_sum_and_of_indices_outside():
    x = torch.ones(1, 1, 3, 1, 1, requires_grad=True)
    frames, offset = torch.tensor([0, 10**9, 2, -(10**9), 2]), torch.zeros(1, requires_grad=True)
    skeleton_view(x, frames, None, None, offset, backend="triton").sum().backward()
    assert x.grad.flatten().tolist() == [1, 0, 2]
    assert offset.grad.tolist() == [3]


@pytest.mark.parametrize("shape", [(0, 3, 5, 4, 1), (2, 0, 5, 4, 1), (2, 3, 0, 4, 1), (2, 3, 5, 4, 0)])
def test_gradients_of_empty_axes(shape):
    for frames in (None, torch.tensor([-1, -1])):
        x = torch.ones(shape, dtype=torch.float64)
        check_gradients(torch.float64, x, frames, None, torch.ones(2, shape[1]), torch.ones(2))


def test_opcheck_and_double_backward():
    ops, x = torch.ops.asma_triton, torch.randn(N, C, T, V, M)
    matrix = torch.randn(C, C, requires_grad=True)
    torch.library.opcheck(ops.skeleton_view.default, (x, FRAMES, JOINTS, matrix, None))
    grad = torch.randn(N, C, 5, 4, M)
    for of_x, flags in ((x, (True, False, True)), (None, (True, True, True)), (x, (False, True, False))):
        arguments = (grad, of_x, T, V, FRAMES, JOINTS, torch.randn(N, C, C), *flags)
        torch.library.opcheck(ops.skeleton_view_backward.default, arguments)
    view = skeleton_view(x.requires_grad_(), FRAMES, None, matrix, backend="triton")
    (grad,) = torch.autograd.grad(view.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="skeleton_view: double backward is not implemented"):
        grad.sum().backward()
