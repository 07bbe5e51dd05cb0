"""Bones, motion and MAMP's target, against loops over joints, frames and patches."""

import pytest
import torch
from cases import assert_close, gradients, layouts

from asma_kernels import Skeleton
from asma_kernels.nn import bone_stream, extract_motion, motion_stream, motion_target, patchify

SKELETONS = ("florence15", "coco17", "openpose18", "ucla20", "ntu25")


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape)))


@pytest.mark.parametrize("name", SKELETONS)
def test_bones(name):
    skeleton = Skeleton.builtin(name)
    V = skeleton.num_joints
    for x in (randn(1, 3, 4, V, 2), randn(2, 3, 4, V)):
        expected = torch.zeros_like(x)
        for joint, parent in skeleton.bones:
            expected[:, :, :, joint] = x[:, :, :, joint] - x[:, :, :, parent]
        for turned in layouts(x).values():
            assert torch.equal(bone_stream(turned, skeleton), expected)
        assert torch.equal(bone_stream(x, torch.tensor(skeleton.parents)), expected)
        assert torch.autograd.gradcheck(lambda x: bone_stream(x, skeleton), x[:1, :1, :1].requires_grad_())
    assert bone_stream(x[:0], skeleton).shape == (0, 3, 4, V)


def test_motion():
    for x in (randn(1, 3, 5, 25, 2), randn(2, 3, 5, 17)):
        expected = torch.zeros_like(x)
        for t in range(4):
            expected[:, :, t] = x[:, :, t + 1] - x[:, :, t]
        for turned in layouts(x).values():
            assert torch.equal(motion_stream(turned), expected)
        assert torch.autograd.gradcheck(motion_stream, x[:1, :1, :, :2].detach().requires_grad_())
    for frames in (0, 1):
        assert torch.equal(motion_stream(x[:, :, :frames]), torch.zeros(2, 3, frames, 17, dtype=torch.float64))


def target(x, stride, p, u, normalise):
    """Number by number."""
    N, T, V, C = x.shape
    motion = x * 0
    for t in range(T - stride):
        motion[:, t] = x[:, t + stride] - x[:, t]
    patches = [
        torch.stack([motion[:, t + i, v + j, c] for i in range(u) for j in range(p) for c in range(C)], -1)
        for t in range(0, T, u)
        for v in range(0, V, p)
    ]
    out = torch.stack(patches, 1)
    if normalise:
        centred = out - out.sum(-1, keepdim=True) / out.shape[-1]
        out = centred / ((centred**2).sum(-1, keepdim=True) / (out.shape[-1] - 1) + 1e-6).sqrt()
    return out


@pytest.mark.parametrize("V", [15, 17, 18, 20, 25])
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(("stride", "u"), [(1, 4), (3, 2), (12, 1), (20, 3)])
def test_motion_target(V, stride, u, normalise):
    p = {15: 5, 18: 3, 20: 4}.get(V, 1)
    x = randn(1 if V == 17 else 2, 12, V, 3)
    expected = target(x, stride, p, u, normalise)
    for turned in layouts(x).values():
        torch.testing.assert_close(motion_target(turned, stride, p, u, normalise), expected, rtol=1e-10, atol=1e-10)
    ours, theirs = (gradients(lambda x, f=f: f(x, stride, p, u, normalise), x) for f in (motion_target, target))
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
    assert torch.equal(patchify(extract_motion(x, stride), p, u), target(x, stride, p, u, False))
    assert motion_target(x[:0], stride, p, u, normalise).shape == (0, *expected.shape[1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_motion_target_in_other_dtypes(dtype):
    x = (randn(2, 12, 25, 3) * 4).round() / 4  # differences are exact
    found = motion_target(x.to(dtype))
    assert found.dtype == dtype
    assert_close(found, motion_target(x), dtype)


X = torch.ones(2, 12, 25, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: bone_stream(X, Skeleton.builtin("ucla20")),
            r"bone_stream: parents must be \(V,\) = \(3,\), got shape",
        ),
        (lambda: bone_stream(X[0], Skeleton.builtin("ntu25")), r"bone_stream: x must be \(N, C, T, V, M\) or"),
        (lambda: bone_stream(X, torch.zeros(25, dtype=torch.int64, device="meta")), "parents must be on cpu, got meta"),
        (
            lambda: bone_stream(X, Skeleton.from_edges([(0, 1), (1, 2), (2, 0)])),
            "Skeleton.parents: 'custom' has cycles",
        ),
        (lambda: motion_stream(X[0]), r"motion_stream: x must be \(N, C, T, V, M\) or \(N, C, T, V\), got shape"),
        (lambda: extract_motion(X[0]), r"extract_motion: x must be \(N, T, V, C\), got shape"),
        (lambda: extract_motion(X, 0), "extract_motion: motion_stride must be >= 1, got 0"),
        (lambda: motion_target(X, -1), "motion_target: motion_stride must be >= 1, got -1"),
        (lambda: motion_target(X[0]), r"motion_target: x must be \(N, T, V, C\), got shape"),
        (lambda: motion_target(X, t_patch_size=5), "motion_target: t_patch_size must divide T = 12, got 5"),
        (lambda: patchify(X, 2), "patchify: patch_size must divide V = 25, got 2"),
        (lambda: patchify(X, 0), "patchify: patch_size must divide V = 25, got 0"),
        (lambda: patchify(X[0]), r"patchify: imgs must be \(N, T, V, C\), got shape"),
        (lambda: motion_target(X[..., :1], t_patch_size=1), "a patch must have at least two numbers to be normalised"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_wrong_dtypes():
    with pytest.raises(TypeError, match="bone_stream: parents must be torch.int64, got torch.float32"):
        bone_stream(X, torch.zeros(25))
    with pytest.raises(TypeError, match="motion_target: x must be float64, float32, bfloat16 or float16"):
        motion_target(X.int())
