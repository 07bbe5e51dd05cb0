import itertools
import math

import cases
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asma_kernels import Skeleton, philox, skeleton_view, view_draw
from asma_kernels.reference import view_draw as reference
from asma_kernels.rng import seed_tensor

FLIP = torch.tensor(Skeleton.builtin("ntu25").flip)


class Drawn:
    """What the words of one clip mean, in Python's numbers."""

    def __init__(self, words, T, pad, shear, rotation, p):
        unit = [(word >> 8) / 2**24 for word in words]
        self.start = words[0] * (2 * pad + 1) // 2**32
        a, b, c, d, e, f = ((2 * u - 1) * shear for u in unit[1:7])
        self.shear = torch.tensor([[1, a, b], [c, 1, d], [e, f, 1]], dtype=torch.float64)
        self.main = words[7] * 3 // 2**32
        self.angles = [math.radians(u * rotation[axis != self.main]) for axis, u in enumerate(unit[8:11])]
        self.flipped = words[11] < p * 2**32


def draw_by_hand(rng, N, T, pad, shear, rotation, p):
    return [Drawn(words, T, pad, shear, rotation, p) for words in philox(rng, N, 12).tolist()]


def step_by_step(clip, drawn, pad, flip, mirror=False):
    """One clip (C, T, V, M) as AimCLR's tools and PSTL go: pad and cut, shear, three rotations, exchange joints."""
    T = clip.shape[1]
    if pad:
        clip = torch.cat([clip[:, :pad].flip(1), clip, clip[:, -pad:].flip(1)], 1)[:, drawn.start : drawn.start + T]
    clip = torch.einsum("dc,ctvm->dtvm", drawn.shear, clip)
    for axis, angle in enumerate(drawn.angles):
        c, s = math.cos(angle), math.sin(angle)
        turn = (
            [[1, 0, 0], [0, c, s], [0, -s, c]],
            [[c, 0, -s], [0, 1, 0], [s, 0, c]],
            [[c, s, 0], [-s, c, 0], [0, 0, 1]],
        )
        clip = torch.einsum("ctvm,cd->dtvm", clip, torch.tensor(turn[axis], dtype=torch.float64).T)
    if drawn.flipped:
        clip = clip[:, :, flip]
        if mirror:
            clip = clip * torch.tensor([-1.0, 1, 1])[:, None, None, None]
    return clip


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("per_clip", [True, False])
@pytest.mark.parametrize("mirror", [True, False])
def test_one_pass_equals_the_augmentations_one_after_another(backend, per_clip, mirror):
    N, T, pad, rng = 8, 50, 8, seed_tensor(3, call=5)
    x = torch.randn(N, 3, T, 25, 2, dtype=torch.float64)
    drawn = draw_by_hand(rng, N, T, pad, 1.0, (30, 1), 0.5)
    if not per_clip:
        drawn = drawn[:1] * N
    expected = torch.stack([step_by_step(*pair, pad, FLIP, mirror) for pair in zip(x, drawn, strict=True)])
    pieces = view_draw(rng, N, T, pad, 1.0, (30, 1), FLIP, 0.5, mirror, per_clip, backend=backend)
    view = skeleton_view(x, *pieces, backend=backend)
    torch.testing.assert_close(view, expected, rtol=1e-5, atol=1e-5)  # the matrix is float32
    frames, joints, matrix = pieces
    assert frames.shape == (N, T) and joints.shape == (N, 25) and matrix.shape == (N, 3, 3)
    assert {clip.flipped for clip in drawn} == ({True, False} if per_clip else {drawn[0].flipped})
    if not per_clip:
        assert all(torch.equal(piece, piece[:1].expand_as(piece)) for piece in pieces)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(-(2**63), 2**63 - 1),
    N=st.integers(0, 5),
    T=st.integers(0, 9),
    data=st.data(),
    per_clip=st.booleans(),
    p=st.floats(0, 1),
)
def test_backends_draw_the_same(seed, N, T, data, per_clip, p):
    rng = torch.tensor([seed, data.draw(st.integers(-(2**63), 2**63 - 1))])
    pad = data.draw(st.integers(0, T))
    shear, main, other = (data.draw(st.floats(0, 90)) for _ in range(3))
    given = (rng, N, T, pad, shear, (main, other), torch.tensor([2, 1, 0]), p, data.draw(st.booleans()), per_clip)
    frames, joints, matrix = view_draw(*given, backend="cpu")
    expected_frames, expected_joints, expected_matrix = view_draw(*given, backend="reference")
    assert torch.equal(frames, expected_frames) and torch.equal(joints, expected_joints)
    torch.testing.assert_close(matrix, expected_matrix, rtol=1e-5, atol=1e-6 * (1 + shear))
    assert ((frames >= 0) & (frames < T)).all() and ((frames.diff() >= -1) & (frames.diff() <= 1)).all()


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_nothing_drawn_is_the_identity(backend):
    frames, joints, matrix = view_draw(seed_tensor(1), 4, 7, p=0.0, flip=torch.tensor([1, 0]), backend=backend)
    assert torch.equal(frames, torch.arange(7).expand(4, 7))
    assert torch.equal(joints, torch.arange(2).expand(4, 2))
    assert torch.equal(matrix, torch.eye(3).expand(4, 3, 3))
    assert view_draw(seed_tensor(1), 4, 7, backend=backend)[1] is None
    x = torch.randn(4, 3, 7, 2, 1)
    assert torch.equal(skeleton_view(x, frames, joints, matrix, backend="cpu"), x)


def test_distribution():
    N, T, pad = 30_000, 12, 3
    frames, joints, matrix = view_draw(seed_tensor(11), N, T, pad, 0.5, flip=torch.tensor([1, 0]), p=0.3)
    windows, counts = frames.unique(dim=0, return_counts=True)
    assert len(windows) == 2 * pad + 1 and ((counts / N - 1 / 7).abs() < 0.01).all()
    assert [2, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8] in windows.tolist()
    assert abs((joints[:, 0] == 1).double().mean() - 0.3) < 0.01
    off_diagonal = matrix[:, ~torch.eye(3, dtype=torch.bool)].double()
    assert off_diagonal.min() >= -0.5 and off_diagonal.max() < 0.5
    assert ((off_diagonal.mean(0)).abs() < 0.01).all() and ((off_diagonal.var(0) - 1 / 12).abs() < 0.002).all()
    together = torch.cat([off_diagonal, frames[:, :1].double(), joints[:, :1].double()], 1)
    assert (torch.corrcoef(together.T) - torch.eye(8)).abs().max() < 0.03  # pieces are independent


def test_rotations():
    N = 30_000
    _, _, R = view_draw(seed_tensor(12), N, 0, rotation=(30, 0))
    assert ((R.mT @ R - torch.eye(3)).abs() < 1e-5).all() and (torch.linalg.det(R) > 0).all()
    # About one axis, a third of the clips each, clockwise for an eye that the axis points to, up to 30 degrees.
    sines = torch.stack([R[:, 1, 2], R[:, 2, 0], R[:, 0, 1]], 1)
    assert ((sines != 0).sum(1) <= 1).all()
    assert (((sines != 0).double().mean(0) - 1 / 3).abs() < 0.01).all()
    degrees = sines.sum(1).double().asin().rad2deg()
    assert degrees.min() >= 0 and degrees.max() <= 30.001 and abs(degrees.mean() - 15) < 0.2
    # The other two axes turn by up to one degree; x first, then y, then z.
    _, _, both = view_draw(seed_tensor(12), N, 0, rotation=(30, 1))
    rest = (both @ R.mT).double()
    assert 0 < (rest - torch.eye(3)).abs().max() <= math.sin(math.radians(1)) * 1.5


def test_pieces_drawn_alone_are_the_pieces_drawn_together():
    rng, T = seed_tensor(5), 20
    frames, joints, matrix = view_draw(rng, 9, T, 4, 0.5, (30, 1), FLIP)
    assert torch.equal(frames, view_draw(rng, 9, T, 4)[0])
    assert torch.equal(joints, view_draw(rng, 9, 0, flip=FLIP)[1])
    shear, rotation = view_draw(rng, 9, 0, shear=0.5)[2], view_draw(rng, 9, 0, rotation=(30, 1))[2]
    torch.testing.assert_close(matrix, rotation @ shear)


def test_opcheck_compiled_and_threads():
    rng = seed_tensor(6)
    arguments = (rng, 3, 8, 2, 0.5, 0.1, 0.01, FLIP, 2**31, True, True)
    cases.check_op("view_draw", arguments)
    cases.check_op("view_draw", (*arguments[:7], None, 0, False, False))

    def view(rng, x, backend):
        return skeleton_view(x, *view_draw(rng, 3, 8, 2, 0.5, (30, 1), FLIP, backend=backend), backend=backend)

    calls = [(rng + call, torch.randn(3, 3, 8, 25, 1)) for call in range(2)]
    cases.check_compiled(lambda rng, x: view(rng, x, "cpu"), *calls)
    traced = torch.compile(view, fullgraph=True, backend="aot_eager")  # inductor takes long over Philox's ten rounds
    torch.testing.assert_close(traced(*calls[0], "reference"), view(*calls[0], "reference"))
    for place in range(3):
        cases.check_threads(lambda place=place: view_draw(rng, 1000, 50, 8, 0.5, (30, 1), FLIP)[place])


def test_a_clip_keeps_its_draw_in_any_batch():
    whole, part = (view_draw(seed_tensor(8), N, 50, 8, 1.0, (30, 1), FLIP) for N in (100, 7))
    for more, fewer in zip(whole, part, strict=True):
        assert torch.equal(more[:7], fewer)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rng": torch.zeros(2)}, "view_draw: rng must be torch.int64"),
        ({"rng": torch.zeros(3).long()}, r"view_draw: rng must be \[seed, call\], got shape \(3,\)"),
        ({"N": -1}, r"view_draw: N must be in \[0, 2\^32\) and T in \[0, 2\^30\), got -1 and 10"),
        ({"T": 2**30}, r"view_draw: N must be in \[0, 2\^32\) and T in \[0, 2\^30\), got 4 and 1073741824"),
        ({"pad": 11}, r"view_draw: pad must be in \[0, T\], got 11 with T = 10"),
        ({"shear": -0.5}, "view_draw: shear must be finite and >= 0, got -0.5"),
        ({"rotation": (30, math.inf)}, "view_draw: rotation must be finite and >= 0, got inf"),
        ({"p": 1.5}, r"view_draw: p must be in \[0, 1\], got 1.5"),
        ({"p": math.nan}, r"view_draw: p must be in \[0, 1\], got nan"),
        ({"flip": FLIP.float()}, "view_draw: flip must be torch.int64"),
        ({"flip": FLIP[None]}, r"view_draw: flip must be \(V\), got shape \(1, 25\)"),
        ({"flip": FLIP.to("meta")}, "view_draw: flip must be on cpu, got meta"),
        ({"mirror": True}, "view_draw: mirror needs flip"),
    ],
)
def test_wrong_arguments_end_in_one_sentence(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        view_draw(**({"rng": seed_tensor(1), "N": 4, "T": 10} | change))


def test_direct_calls_cannot_leave_their_memory():
    for N, T, pad, flip in (
        (-1, 4, 0, None),
        (1, -1, 0, None),
        (1, 4, 5, None),
        (1, 4, 0, FLIP[::2]),
        (1, 4, 0, FLIP.int()),
    ):
        with pytest.raises(RuntimeError, match="view_draw: "):
            torch.ops.asma.view_draw(seed_tensor(1), N, T, pad, 0.0, 0.0, 0.0, flip, 0, False, True)


@pytest.mark.parametrize(("N", "T", "flip"), [(3, 50, FLIP), (1, 1, FLIP[:0]), (0, 7, FLIP), (4_200, 2, None)])
def test_cuda_kernels_on_the_cpu(emulated, N, T, flip):
    rng = torch.tensor([-3, 2**40 + 1]).repeat_interleave(2)[::2]
    for mirror, per_clip, half in itertools.product((True, False), (True, False), (2**31, 2**32)):
        arguments = (rng, N, T, T // 3, 0.5, math.radians(30), 0.02, flip, half, mirror, per_clip)
        frames, joints, matrix = emulated.view_draw(*arguments)
        expected_frames, expected_joints, expected_matrix = reference.view_draw(*arguments)
        assert torch.equal(frames, expected_frames) and torch.equal(joints, expected_joints)
        torch.testing.assert_close(matrix, expected_matrix, rtol=1e-5, atol=1e-6)
