import mmap

import cases
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

import asma_kernels.ops.skeleton_view as rooms
from asma_kernels import skeleton_view

SHAPES = [(2, 3, 50, 25, 2), (3, 3, 17, 20, 1), (2, 2, 9, 5, 3), (1, 3, 1, 1, 1)]


def by_hand(x, frames, joints, matrix, offset):
    """The definition read aloud, one number of the output after another; every argument has the clip axis."""
    N, C, _, _, M = x.shape
    out = torch.zeros(N, matrix.shape[1], frames.shape[1], joints.shape[1], M, dtype=torch.float64)
    for n, c_out, t, v, m in ((n, c, t, v, m) for n, c, t, v, m in torch.cartesian_prod(*map(torch.arange, out.shape))):
        frame, joint = frames[n, t], joints[n, v]
        if frame >= 0 and joint >= 0:
            out[n, c_out, t, v, m] = offset[n, c_out]
            for c in range(C):
                out[n, c_out, t, v, m] += matrix[n, c_out, c] * x[n, c, frame, joint, m]
    return out


def picks(shape, kind, absent=True):
    """frames and joints: repeated, shuffled, some absent."""
    N, _, T, V, _ = shape
    low = -1 if absent else 0
    frames = torch.randint(low, T, (N, T + 2))
    joints = torch.randint(low, V, (N, V + 1))
    frames[:, : T // 2] = torch.arange(T // 2)  # a run of frames
    if kind == "none":
        return None, None
    if kind == "shared":
        return frames[0], joints[0]
    if kind == "frames":
        return frames, None
    if kind == "permutation":
        return frames, torch.stack([torch.randperm(V) if n else torch.arange(V) for n in range(N)])
    return frames, joints


KINDS = ("none", "shared", "frames", "permutation", "per_clip")


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("C_out", [3, 1, 4])
def test_is_the_definition(backend, C_out):
    x = torch.randn(2, 3, 4, 3, 2, dtype=torch.float64)
    frames = torch.tensor([[0, 1, 2, -1, 3], [3, 3, 3, 0, 1]])
    joints = torch.tensor([[2, 0, -1, 2], [0, 1, 2, 0]])
    matrix, offset = torch.randn(2, C_out, 3, dtype=torch.float64), torch.randn(2, C_out, dtype=torch.float64)
    view = skeleton_view(x, frames, joints, matrix, offset, backend=backend)
    assert view.is_contiguous()
    torch.testing.assert_close(view, by_hand(x, frames, joints, matrix, offset))
    # Without the clip axis, or not at all: the same as spelt out.
    shared = [tensor[:1].expand_as(tensor) for tensor in (frames, joints, matrix, offset)]
    torch.testing.assert_close(
        skeleton_view(x, frames[0], joints[0], matrix[0], offset[0], backend=backend), by_hand(x, *shared)
    )
    whole = [
        torch.arange(4).expand(2, 4),
        torch.arange(3).expand(2, 3),
        torch.eye(3).expand(2, 3, 3),
        torch.zeros(2, 3),
    ]
    torch.testing.assert_close(skeleton_view(x, backend=backend), by_hand(x, *whole))


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward_equal_the_reference(dtype, kind, shape):
    N, C = shape[:2]
    exact = torch.randn(shape, dtype=torch.float64).to(dtype).double()
    frames, joints = picks(shape, kind)
    matrix, offset = torch.randn(N, C, C) / 2, torch.randn(N, C)

    def view(backend, *tensors):
        return skeleton_view(tensors[0], frames, joints, *tensors[1:], backend=backend)

    expected = view("reference", exact, matrix, offset)
    expected_grads = cases.gradients(lambda *tensors: view("reference", *tensors), exact, matrix, offset)
    for layout, x in cases.layouts(exact.to(dtype)).items():
        out = view("cpu", x, matrix, offset)
        assert out.dtype == dtype and out.is_contiguous(), layout
        cases.assert_close(out, expected, dtype)
        grads = cases.gradients(lambda *tensors: view("cpu", *tensors), x, matrix, offset)
        for grad, expected_grad in zip(grads, expected_grads, strict=True):
            size = expected_grad.abs().max().clamp(min=1)  # sums of many numbers: compare against the largest
            cases.assert_close(grad / size, expected_grad / size, dtype)


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("kind", KINDS)
def test_without_matrix_the_bits_are_copied(dtype, kind):
    shape = (2, 3, 17, 20, 2)
    bits = {8: torch.int64, 4: torch.int32, 2: torch.int16}[dtype.itemsize]
    ends = torch.iinfo(bits)
    x = torch.randint(ends.min, ends.max, shape, dtype=bits).view(dtype)  # NaN, infinities and subnormals among them
    frames, joints = picks(shape, kind, absent=False)
    for turned in cases.layouts(x).values():
        view = skeleton_view(turned, frames, joints, backend="cpu")
        expected = by_index(x.view(bits), frames, joints)
        assert torch.equal(view.view(bits), expected)


def by_index(x, frames, joints):
    """Advanced indexing, one clip after another."""
    clips = []
    for n, clip in enumerate(x):
        if frames is not None:
            clip = clip[:, frames if frames.dim() == 1 else frames[n]]
        if joints is not None:
            clip = clip[:, :, joints if joints.dim() == 1 else joints[n]]
        clips.append(clip)
    return torch.stack(clips)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("factor", [1.0, 1.0009765625, -(2.0**-12), 300.0])
def test_every_16_bit_number_is_rounded_as_pytorch_does(dtype, factor):
    x = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype).view(1, 1, 256, 256, 1)
    matrix = torch.tensor([[factor]])
    expected = (x.float() * factor).to(dtype)
    for columns in (256, 3):  # whole vectors, and the narrow ones of short rows
        view = skeleton_view(x[:, :, :, :columns], matrix=matrix, backend="cpu")
        torch.testing.assert_close(view, expected[:, :, :, :columns], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_what_is_not_picked_is_not_read_and_absent_means_zero(backend):
    x = torch.full((1, 3, 4, 3, 2), float("nan"))
    x[:, :, 1, 1] = 1
    matrix, offset = torch.eye(3), torch.tensor([5.0, 6.0, 7.0])
    view = skeleton_view(x, torch.tensor([1, -1]), torch.tensor([-1, 1]), matrix, offset, backend=backend)
    assert view[0, :, 0, 1, 0].tolist() == [6, 7, 8]
    assert torch.count_nonzero(view) == 6
    grad_x, grad_matrix, grad_offset = cases.gradients(
        lambda *t: skeleton_view(t[0], torch.tensor([1, -1]), torch.tensor([-1, 1]), *t[1:], backend=backend).nansum(),
        torch.where(x.isnan(), 0, x),
        matrix,
        offset,
    )
    assert torch.count_nonzero(grad_x) == torch.count_nonzero(grad_x[:, :, 1, 1]) == 6
    assert torch.equal(grad_matrix.abs(), torch.full((3, 3), 2.0)) and torch.equal(grad_offset.abs(), 2 * torch.ones(3))


def test_infinities_in_absent_joints_gradients_do_not_reach_the_matrix():
    x = torch.ones(1, 3, 2, 3, 2, requires_grad=True)
    matrix = torch.eye(3, requires_grad=True)
    view = skeleton_view(x, None, torch.tensor([-1, 2, 2]), matrix)
    grad = torch.ones_like(view)
    grad[:, :, :, 0] = float("inf")
    grad_x, grad_matrix = torch.autograd.grad(view, (x, matrix), grad)
    assert torch.equal(grad_matrix, torch.full((3, 3), 8.0))
    assert torch.equal(grad_x[0, 0, 0, :, 0], torch.tensor([0.0, 0.0, 2.0]))


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("axis", range(5))
def test_empty_axes(backend, axis):
    shape = [2, 3, 4, 5, 2]
    shape[axis] = 0
    x = torch.ones(shape, requires_grad=True)
    N, C, T, V, _ = shape
    for C_out in (0, 3):
        matrix, offset = torch.ones(N, C_out, C, requires_grad=True), torch.ones(C_out, requires_grad=True)
        frames = torch.full((N, 6), -1)
        joints = torch.full((7,), -1)
        view = skeleton_view(x, frames, joints, matrix, offset, backend=backend)
        assert torch.equal(view, torch.zeros(N, C_out, 6, 7, shape[4]))
        view = skeleton_view(x, None, None, matrix, offset, backend=backend)
        assert torch.equal(view, torch.full((N, C_out, *shape[2:]), 1.0 + C))
        grads = torch.autograd.grad(view.sum(), (x, matrix, offset))
        assert [grad.shape for grad in grads] == [x.shape, matrix.shape, offset.shape]
        picked = skeleton_view(x, frames[:, :0], joints[:0], matrix, backend=backend)
        assert picked.shape == (N, C_out, 0, 0, shape[4])
        (grad_x,) = torch.autograd.grad(picked.sum(), x)
        assert torch.equal(grad_x, torch.zeros_like(x))


def test_views_of_other_memory_need_no_copy():
    pyskl = torch.randn(4, 2, 12, 7, 3)  # N M T V C
    expanded = torch.randn(1, 3, 12, 7, 1).expand(4, 3, 12, 7, 2)
    frames, joints = picks((4, 3, 12, 7, 2), "per_clip")
    matrix = torch.randn(4, 3, 3)
    for x in (pyskl.permute(0, 4, 2, 3, 1), expanded, torch.randn(4, 3, 24, 7, 2)[:, :, ::2]):
        for arguments in ((frames, joints, matrix), (frames, None, matrix), (None, None, matrix), (frames, joints)):
            expected = skeleton_view(x.contiguous(), *arguments, backend="reference")
            torch.testing.assert_close(skeleton_view(x, *arguments), expected)


def test_offsets_beyond_32_bits():
    # 2^32 numbers of which only the touched pages exist.
    memory = mmap.mmap(-1, 2**33, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000))
    storage = torch.frombuffer(memory, dtype=torch.float16)
    far = 2**31 + 40
    for strides in ((0, 1, far, 3, 0), (far, 1, 30, 3, 0), (0, far // 2, 30, 3, 1), (0, 1, 3, far // 4, 0)):
        x = storage.as_strided((2, 3, 2, 5, 1), strides)
        values = torch.arange(60.0, dtype=torch.float16).view(2, 3, 2, 5, 1)
        for n in range(2):
            x[n] = values[n]
        expected = skeleton_view(x.contiguous(), torch.tensor([1, 0]), torch.tensor([4, -1, 0]), torch.eye(3))
        assert torch.equal(skeleton_view(x, torch.tensor([1, 0]), torch.tensor([4, -1, 0]), torch.eye(3)), expected)
    assert expected.count_nonzero() > 0


GRADCHECK = [
    ((2, 3, 3), (2, 3), "per_clip"),
    ((3, 3), (3,), "shared"),
    ((4, 3), (2, 4), "per_clip"),
    ((2, 2, 3), (2,), "permutation"),
    (None, (3,), "frames"),
    ((3, 3), None, "none"),
]


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize(("matrix_shape", "offset_shape", "kind"), GRADCHECK)
def test_gradcheck(backend, matrix_shape, offset_shape, kind):
    frames, joints = picks((2, 3, 4, 3, 2), kind)
    leaves = [
        None if shape is None else torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 3, 4, 3, 2), matrix_shape, offset_shape)
    ]

    def view(*given):
        given = iter(given)
        x, matrix, offset = (None if leaf is None else next(given) for leaf in leaves)
        return skeleton_view(x, frames, joints, matrix, offset, backend=backend)

    assert gradcheck(view, tuple(leaf for leaf in leaves if leaf is not None), fast_mode=True)


def test_gradient_in_x_does_not_keep_x():
    x = torch.randn(2, 3, 5, 4, 1, requires_grad=True)
    moved = x * 1
    view = skeleton_view(moved, matrix=2 * torch.eye(3))
    moved.mul_(2)  # would be an error if autograd had kept it
    (grad,) = torch.autograd.grad(view.sum(), x)
    assert torch.equal(grad, torch.full_like(x, 2))


@pytest.mark.parametrize("matrix_dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_matrix_and_its_gradient_keep_their_dtype(backend, matrix_dtype):
    x = torch.randn(2, 3, 5, 4, 1).bfloat16()
    matrix = torch.randn(3, 3).to(matrix_dtype).requires_grad_()
    view = skeleton_view(x, matrix=matrix, backend=backend)
    cases.assert_close(view, torch.einsum("rc,nctvm->nrtvm", matrix.double(), x.double()), torch.bfloat16)
    view.sum().backward()
    assert matrix.grad.dtype == matrix_dtype
    expected = x.double().sum((0, 2, 3, 4)).expand(3, 3)
    cases.assert_close(matrix.grad, expected, matrix_dtype if matrix_dtype == torch.bfloat16 else torch.float32)


def test_opcheck_and_double_backward():
    x = torch.randn(2, 3, 5, 4, 2, requires_grad=True)
    frames, joints = picks(x.shape, "per_clip")
    matrix, offset = torch.randn(2, 4, 3, requires_grad=True), torch.randn(4, requires_grad=True)
    cases.check_op("skeleton_view", (x, frames, joints, matrix, offset))
    cases.check_op("skeleton_view", (x.detach(), None, None, None, None))
    grad = torch.randn(2, 4, 7, 5, 2)
    for clips, needs_x in ((x.detach(), False), (None, True)):
        arguments = (grad, clips, 5, 4, frames, joints, matrix.detach(), needs_x, False, True)
        cases.check_op("skeleton_view_backward", arguments)
    for leaf in (x, matrix):
        view = skeleton_view(x, frames, joints, matrix, offset)
        (grad,) = torch.autograd.grad(view.square().sum(), leaf, create_graph=True)
        with pytest.raises(RuntimeError, match="skeleton_view: double backward is not implemented"):
            grad.sum().backward()


@pytest.mark.parametrize("shared", [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("C_out", [3, 4])
def test_devices_without_a_kernel_get_the_same_gradients(shared, C_out):
    x, grad = torch.randn(2, 3, 5, 4, 2), torch.randn(2, C_out, 7, 5, 2)
    frames, joints = picks(x.shape, "per_clip")
    for needs_x, clips in ((True, x), (True, None), (False, x)):
        arguments = (grad, clips, 5, 4, frames, joints, torch.randn(2, C_out, 3), needs_x, *shared)
        expected = rooms._reference_backward(*arguments)
        for actual, wanted in zip(torch.ops.asma.skeleton_view_backward(*arguments), expected, strict=True):
            torch.testing.assert_close(actual, wanted)


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_compiled(backend):
    frames, joints = picks((2, 3, 8, 5, 2), "per_clip")
    calls = [(torch.randn(2, 3, 8, 5, 2), torch.randn(2, 3, 3)) for _ in range(2)]
    cases.check_compiled(lambda x, matrix: skeleton_view(x * 2, frames, joints, matrix, backend=backend).relu(), *calls)


def test_compiled_gradients_of_clips_of_any_length():
    def view(x, matrix, offset):
        return skeleton_view(x * 2, None, torch.tensor([3, -1, 0]), matrix, offset).square()

    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(view, fullgraph=True, dynamic=True, backend=counter)
    for T in (8, 5, 11):
        inputs = torch.randn(2, 3, T, 5, 2), torch.randn(2, 3, 3), torch.randn(3)
        for grad, expected in zip(cases.gradients(compiled, *inputs), cases.gradients(view, *inputs), strict=True):
            torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-4)
    assert counter.frame_count == 1


def test_threads_do_not_change_a_bit():
    x = torch.randn(37, 3, 50, 25, 2)
    frames, joints = picks(x.shape, "per_clip")
    matrix, offset = torch.randn(3, 3), torch.randn(37, 3)
    cases.check_threads(lambda: skeleton_view(x, frames, joints, matrix, offset))
    for place in range(3):
        cases.check_threads(
            lambda place=place: cases.gradients(
                lambda *t: skeleton_view(t[0], frames, joints, *t[1:]), x, matrix, offset
            )[place]
        )
    cases.check_concurrent(lambda: skeleton_view(x, frames, joints, matrix, offset))


def test_autocast_keeps_the_coordinates_dtype():
    x, matrix = torch.randn(2, 3, 8, 5, 1), torch.randn(3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(skeleton_view(x, matrix=matrix), skeleton_view(x, matrix=matrix))
        assert skeleton_view(x, matrix=matrix).dtype == torch.float32


@settings(max_examples=40, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 6)] * 5), data=st.data())
def test_a_view_of_a_view_is_one_view(shape, data):
    N, C, T, V, _ = shape
    x = torch.randn(shape, dtype=torch.float64)

    def indices(size):
        count = data.draw(st.integers(0, 6))
        return torch.tensor(data.draw(st.lists(st.integers(-1, size - 1), min_size=count, max_size=count))).long()

    frames, joints = indices(T), indices(V)
    more_frames = torch.randint(-1, max(len(frames), 0), (N, 4)) if len(frames) else torch.full((N, 4), -1)
    A, B = torch.randn(C, C, dtype=torch.float64), torch.randn(N, 2, C, dtype=torch.float64)
    composed = torch.where(more_frames < 0, -1, frames[more_frames.clamp(min=0)] if len(frames) else -1)
    for backend in cases.BACKENDS:
        twice = skeleton_view(
            skeleton_view(x, frames, joints, A, backend=backend), more_frames, None, B, backend=backend
        )
        torch.testing.assert_close(skeleton_view(x, composed, joints, B @ A, backend=backend), twice)
    order = torch.randperm(V)
    assert torch.equal(skeleton_view(skeleton_view(x, None, order), None, order.argsort()), x)
