import itertools
import math

import pytest
import torch

from asma_kernels import Skeleton, skeleton_view, view_draw

FLIP = torch.tensor(Skeleton.builtin("ntu25").flip)
RNG = torch.tensor([-3, 2**40 + 1])


def check(*arguments):
    frames, joints, matrix = view_draw(*arguments, backend="triton")
    expected_frames, expected_joints, expected_matrix = view_draw(*arguments, backend="reference")
    assert torch.equal(frames, expected_frames)
    assert joints is None if expected_joints is None else torch.equal(joints, expected_joints)
    torch.testing.assert_close(matrix, expected_matrix, rtol=1e-5, atol=1e-6 * (1 + arguments[4]))


@pytest.mark.parametrize(
    ("N", "T", "flip"), [(3, 50, FLIP), (70, 130, FLIP.repeat(3)), (1, 1, FLIP[:1]), (33, 2, None)]
)
def test_equals_the_reference(N, T, flip):
    rng = RNG.repeat_interleave(2)[::2]
    for mirror, per_clip, p in itertools.product((True, False), (True, False), (0.5, 1.0)):
        check(rng, N, T, T // 3, 0.5, (30, 1), flip, p, mirror and flip is not None, per_clip)


@pytest.mark.parametrize("angles", [(0.0, 0.0), (90.0, 45.0), (720.0, 1e6)])
def test_any_angle(angles):
    check(RNG, 40, 0, 0, 2.0, angles)


@pytest.mark.parametrize(("N", "T"), [(0, 7), (3, 0)])
def test_nothing(N, T):
    check(RNG, N, T, 0, 0.5, (30, 1), FLIP[:0], 0.5)


def test_nothing_drawn_is_the_identity():
    frames, joints, matrix = view_draw(RNG, 4, 7, p=0.0, flip=torch.tensor([1, 0]), backend="triton")
    x = torch.randn(4, 3, 7, 2, 1)
    assert torch.equal(matrix, torch.eye(3).expand(4, 3, 3))
    assert torch.equal(skeleton_view(x, frames, joints, matrix, backend="triton"), x)


def test_opcheck():
    arguments = (RNG, 3, 8, 2, 0.5, math.radians(30), 0.01, FLIP, 2**31, True, True)
    torch.library.opcheck(torch.ops.asma_triton.view_draw.default, arguments)
    torch.library.opcheck(torch.ops.asma_triton.view_draw.default, (*arguments[:7], None, 0, False, False))
