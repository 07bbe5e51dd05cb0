"""What skeleton_view says of arguments that it cannot take."""

import cases
import pytest
import torch

from asma_kernels import skeleton_view

X = torch.zeros(2, 3, 5, 4, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": X[0]}, r"skeleton_view: x must be \(N, C, T, V, M\), got shape \(3, 5, 4, 1\)"),
        ({"x": X.long()}, "skeleton_view: x must be float64"),
        ({"frames": torch.tensor([0.0])}, "skeleton_view: frames must be torch.int64, got torch.float32"),
        (
            {"joints": torch.tensor([0], dtype=torch.int32)},
            "skeleton_view: joints must be torch.int64, got torch.int32",
        ),
        ({"frames": torch.zeros(3, 5).long()}, r"frames must be \(T'\) or \(N, T'\) with N = 2, got \(3, 5\)"),
        ({"joints": torch.tensor(0)}, r"skeleton_view: joints must be \(V'\) or \(N, V'\) with N = 2, got \(\)"),
        (
            {"matrix": torch.eye(3).half()},
            "matrix must be float32, float64 or of x's dtype, torch.float32, got torch.flo",
        ),
        ({"matrix": torch.eye(4)}, r"matrix must be \(C', C\) or \(N, C', C\) with C = 3, got \(4, 4\)"),
        ({"matrix": torch.zeros(3, 3, 3)}, r"matrix must be \(C', C\) or \(N, C', C\) with N = 2, got \(3, 3, 3\)"),
        ({"offset": torch.zeros(2)}, r"offset must be \(C'\) or \(N, C'\) with C' = 3, got \(2,\)"),
        ({"offset": torch.zeros(3, 3)}, r"offset must be \(C'\) or \(N, C'\) with N = 2, got \(3, 3\)"),
        ({"offset": torch.zeros(3).long()}, "skeleton_view: offset must be float32, float64"),
        ({"frames": torch.empty(4, device="meta").long()}, "skeleton_view: frames must be on cpu, got meta"),
    ],
)
def test_wrong_arguments_end_in_one_sentence(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        skeleton_view(**({"x": X} | change))


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("wrong", [5, -2, 2**63 - 1, -(2**63)])
def test_an_index_outside_is_an_error_that_names_it(backend, wrong):
    frames = torch.zeros(2, 70, dtype=torch.int64)
    frames[1, 66] = wrong
    with pytest.raises(
        RuntimeError, match=rf"skeleton_view: frames must be in \[-1, 5\), got {wrong} at place 66 of clip 1"
    ):
        skeleton_view(X, frames, backend=backend)
    with pytest.raises(RuntimeError, match=rf"skeleton_view: joints must be in \[-1, 4\), got {wrong} at place 1"):
        skeleton_view(X, None, torch.tensor([0, wrong]), backend=backend)


def test_direct_calls_cannot_leave_their_memory():
    ops, grad = torch.ops.asma, torch.zeros(2, 3, 5, 4, 1)

    def backward(grad, x, T, V, frames=None, joints=None, matrix=None):
        ops.skeleton_view_backward(grad, x, T, V, frames, joints, matrix, True, True, True)

    calls = [
        lambda: ops.skeleton_view(X[0], None, None, None, None),
        lambda: ops.skeleton_view(X, torch.zeros(3, 5).long(), None, None, None),
        lambda: ops.skeleton_view(X, torch.zeros(2, 10).long()[:, ::2], None, None, None),
        lambda: ops.skeleton_view(X, torch.zeros(5), None, None, None),
        lambda: ops.skeleton_view(X, None, None, torch.zeros(3, 2), None),
        lambda: ops.skeleton_view(X, None, None, torch.zeros(3), None),
        lambda: ops.skeleton_view(X, None, None, torch.zeros(3, 3).double(), None),
        lambda: ops.skeleton_view(X, None, None, torch.zeros(3, 3, 3), None),
        lambda: ops.skeleton_view(X, None, None, None, torch.zeros(2)),
        lambda: backward(grad, None, 6, 4),
        lambda: backward(grad, None, 5, -1),
        lambda: backward(grad, None, 4, 4, torch.full((5,), 4)),
        lambda: backward(grad, None, 5, 4, matrix=torch.zeros(2, 3)),
        lambda: backward(grad, None, 5, 4, matrix=torch.zeros(3)),
        lambda: backward(grad[:1], X, 5, 4),
        lambda: backward(grad, X[:, :, :4], 5, 4),
        lambda: backward(grad.double(), X, 5, 4),
        lambda: backward(grad, X, 5, 4, joints=torch.full((4,), 4)),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="skeleton_view: "):
            call()
