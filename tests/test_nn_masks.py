"""Masks of other people's models: against transcriptions of their definitions, in distribution where they draw."""

import math

import pytest
import torch
from cases import gradients, layouts

import asma_kernels as ak
from asma_kernels import Skeleton
from asma_kernels.nn import (
    CentralSpatialMask,
    Jointmask,
    Jointmask2,
    NeighbourhoodMask,
    TemporalMask,
    frame_random_masking,
    motion_att_temp_mask,
    motion_aware_random_masking,
    random_masking,
)
from asma_kernels.rng import seed_tensor

SKELETONS = ("florence15", "coco17", "openpose18", "ucla20", "ntu25")
RNG = seed_tensor(7)


def randn(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(len(shape)))


# MAE's and MAMP's token masks


def by_noise(x, noise, ratio):
    """MAE: keep the tokens of the smallest noise."""
    keep = int(x.shape[1] * (1 - ratio))
    order = noise.argsort(1)
    restore = order.argsort(1)
    kept = torch.stack([row[places] for row, places in zip(x, order[:, :keep], strict=True)])
    return kept, (restore >= keep).float(), restore, order[:, :keep]


def motion_prob(patches, tau):
    """MAMP: each patch's mean absolute difference to the one before, as a probability of being masked."""
    N, TP, VP, _ = patches.shape
    motion = torch.zeros(N, TP, VP, dtype=patches.dtype)
    for t in range(1, TP):
        motion[:, t] = (patches[:, t] - patches[:, t - 1]).abs().mean(-1)
    motion[:, 0] = motion[:, 1]
    motion = motion.reshape(N, TP * VP)
    return (motion / (tau * motion.amax(1, keepdim=True))).softmax(1)


@pytest.mark.parametrize("N", [1, 3])
@pytest.mark.parametrize("ratio", [0, 0.5, 0.8, 0.9, 1])
def test_random_masking_by_noise(N, ratio):
    x, noise = randn(N, 50, 4), torch.rand(N, 50, generator=torch.Generator().manual_seed(1))
    for turned in layouts(x).values():
        for ours, theirs in zip(random_masking(turned, ratio, noise=noise), by_noise(x, noise, ratio), strict=True):
            assert torch.equal(ours, theirs) and ours.dtype == theirs.dtype


@pytest.mark.parametrize("V", [15, 17, 18, 20, 25])
def test_motion_aware_masking_by_noise(V):
    N, TP = (1 if V == 17 else 2), 6
    x, patches = randn(N, TP * V, 4), randn(N, TP, V, 12)
    gumbel = -(-torch.rand(N, TP * V, dtype=torch.float64, generator=torch.Generator().manual_seed(V)).log()).log()
    for tau in (0.1, 0.75):
        expected = by_noise(x, motion_prob(patches, tau).log() + gumbel, 0.9)
        for turned in layouts(patches).values():
            found = motion_aware_random_masking(x, turned, 0.9, tau, noise=gumbel)
            assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def test_motion_aware_masking_masks_what_moves():
    """Masking the largest of log p + Gumbel is sampling without replacement from p: the first is drawn by p itself."""
    patches = randn(1, 3, 4, 2).expand(20_000, 3, 4, 2)
    masked = motion_aware_random_masking(torch.zeros(20_000, 12, 1), patches, 1 / 12, 0.5, rng=RNG).mask
    assert (masked.sum(1) == 1).all()
    assert (masked.double().mean(0) - motion_prob(patches[:1], 0.5)[0]).abs().max() < 0.01


def test_random_masking_is_uniform_and_its_rows_are_their_own():
    drawn = random_masking(torch.zeros(20_000, 8, 1), 0.75, rng=RNG)
    assert (drawn.mask.mean(0) - 0.75).abs().max() < 0.015
    assert torch.equal(random_masking(torch.zeros(3, 8, 1), 0.75, rng=RNG).ids_keep, drawn.ids_keep[:3])
    assert not torch.equal(random_masking(torch.zeros(99, 8, 1), 0.75, rng=RNG + 1).ids_keep, drawn.ids_keep[:99])


def test_masked_tokens_go_back_where_they_were_with_gradients():
    x = randn(2, 30, 4)
    for mask in (
        lambda x: random_masking(x, 0.6, rng=RNG),
        lambda x: motion_aware_random_masking(x, randn(2, 6, 5, 3), 0.6, 0.75, rng=RNG),
    ):
        kept, masked, restore, ids = mask(x)
        back = torch.cat([kept, torch.full((2, 18, 4), 9.0, dtype=torch.float64)], 1)
        back = back.gather(1, restore[..., None].expand(-1, -1, 4))
        assert torch.equal(back, torch.where(masked[..., None] > 0, 9.0, x))
        assert torch.equal(x.gather(1, ids[..., None].expand(-1, -1, 4)), kept)
        (gradient,) = gradients(lambda x, mask=mask: mask(x).x_masked, x)
        assert torch.equal(gradient.abs().sum(-1) > 0, masked == 0)
    assert random_masking(x[:0], 0.5, rng=RNG).x_masked.shape == (0, 15, 4)


# CHARON's frame mask


@pytest.mark.parametrize("V", [15, 17, 18, 20, 25])
def test_frame_random_masking(V):
    x = randn(1 if V == 17 else 3, 4, 10, V)
    for turned in layouts(x).values():
        kept, restore = frame_random_masking(turned, 0.35, rng=RNG)
        assert kept.shape == (len(x), 4, 6, V)
        back = torch.cat([kept, torch.full((len(x), 4, 4, V), 9.0, dtype=torch.float64)], 2)
        back = back.gather(2, restore[:, None, :, None].expand(-1, 4, -1, V))
        stays = restore < 6
        assert torch.equal(back, torch.where(stays[:, None, :, None], x, 9.0)) and (stays.sum(1) == 6).all()
        assert all((row[row < 6].diff() == 1).all() for row in restore), "kept frames are in order of time"
    (gradient,) = gradients(lambda x: frame_random_masking(x, 0.35, rng=RNG)[0], x)
    assert torch.equal(gradient.abs().sum((1, 3)) > 0, stays)


def test_frame_random_masking_is_uniform_and_its_rows_are_their_own():
    x = torch.zeros(20_000, 1, 8, 1)
    restore = frame_random_masking(x, 0.5, rng=RNG)[1]
    assert ((restore < 4).double().mean(0) - 0.5).abs().max() < 0.015
    assert torch.equal(frame_random_masking(x[:3], 0.5, rng=RNG)[1], restore[:3])
    assert frame_random_masking(x[:0], 0.5, rng=RNG)[0].shape == (0, 1, 4, 1)
    assert torch.equal(frame_random_masking(randn(2, 3, 4, 5), 0, rng=RNG)[0], randn(2, 3, 4, 5))


# PSTL's masks


@pytest.mark.parametrize("V", [15, 17, 18, 20, 25])
@pytest.mark.parametrize("N", [1, 4])
def test_motion_att_temp_mask(V, N):
    x = randn(N, 3, 20, V, 2)
    motion = torch.zeros_like(x)
    motion[:, :, :-1] = x[:, :, 1:] - x[:, :, :-1]
    calm = (motion**2).mean((1, 3, 4)).argsort(1)[:, :15].sort(1).values
    for turned in layouts(x).values():
        out = motion_att_temp_mask(turned, 5, rng=RNG)
        assert out.shape == (N, 3, 10, V, 2)
        frames = (out[0, 0, :, None, 0, 0] == x[0, 0, None, :, 0, 0]).int().argmax(1)
        places = torch.searchsorted(calm[0], frames)
        for row in range(N):  # the same places among the calm frames of each clip
            assert torch.equal(out[row], x[row][:, calm[row][places]])
    (gradient,) = gradients(lambda x: motion_att_temp_mask(x, 5, rng=RNG), x)
    assert (gradient.abs().sum((1, 3, 4)) > 0).sum(1).tolist() == [10] * N


def test_central_spatial_mask_has_pstl_s_probabilities():
    skeleton = Skeleton.builtin("ntu25")
    masked = CentralSpatialMask(skeleton, 8, seed=3)(rows=20_000, shared=False).mask.double().mean(0)
    for joint, degree in enumerate(skeleton.degrees):
        assert masked[joint].item() == pytest.approx(1 - math.comb(48 - degree, 8) / math.comb(48, 8), abs=0.015)


@pytest.mark.parametrize("name", SKELETONS)
def test_central_spatial_mask_draws_as_joint_mask(name):
    skeleton = Skeleton.builtin(name)
    masker = CentralSpatialMask(skeleton, 6, mode="fixed", seed=5)
    for call in range(3):
        drawn = masker(rows=2)
        rng = seed_tensor(5, call)
        assert torch.equal(drawn.kept, ak.joint_mask(skeleton.degrees, 6, 2, rng, "fixed").kept)
    assert masker.rng.tolist() == [5, 3] and repr(masker) == "CentralSpatialMask(mask_joint=6, mode='fixed')"


def test_a_saved_mask_goes_on_where_it_was():
    masker, other = (CentralSpatialMask(Skeleton.builtin("ntu25"), seed=seed) for seed in (1, 2))
    masker()
    other.load_state_dict(masker.state_dict())
    assert torch.equal(masker().mask, other().mask)


# HiCLR's masks


@pytest.mark.parametrize("V", [15, 17, 18, 20, 25])
@pytest.mark.parametrize("kind", [Jointmask, Jointmask2])
@pytest.mark.parametrize("frame", [1, 7, 12])
def test_hiclr_s_joints(kind, V, frame):
    x = randn(1 if V == 17 else 2, 3, 12, V, 2)
    mask = kind(0.3, 2, V, 3, seed=V)(x, frame)
    assert mask.shape == (len(x), 12, 2, V, 3) and mask.dtype == torch.float32
    one = mask[0, :, 0, :, 0]
    assert torch.equal(mask, one.view(1, 12, 1, V, 1).expand_as(mask)) and set(one.unique().tolist()) == {0.0, 1.0}
    assert (one == 0).sum(1).tolist() == [int(V * 0.3)] * frame + [0] * (12 - frame)
    if frame > 1:
        assert (one[:frame] == one[0]).all() == (kind is Jointmask2)


def test_hiclr_s_joints_are_uniform_and_anew_at_every_call():
    masker, x = Jointmask(0.5), torch.zeros(1, 1, 5000, 10, 1)
    first = masker(x, 5000)[0, :, 0, :, 0]
    assert (first.mean(0) - 0.5).abs().max() < 0.03
    assert not torch.equal(masker(x, 5000)[0, :, 0, :, 0], first)


@pytest.mark.parametrize("ratio", [0, 0.1, 0.3, 0.33, 0.45, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("frame", [1, 33, 50])
def test_hiclr_s_frames(ratio, frame):
    x = torch.zeros(2, 3, 50, 17, 1)
    mask = TemporalMask(ratio, person_num=1)(x, frame)
    frames = mask[0, :, 0, 0, 0]
    assert mask.shape == (2, 50, 1, 17, 3) and torch.equal(mask, frames.view(1, 50, 1, 1, 1).expand_as(mask))
    # As HiCLR compares, in float32.
    stay = (torch.arange(frame) < torch.tensor(frame * (1 - ratio))).sum().item()
    assert frames[:frame].sum() == stay and frames[frame:].sum() == 0


def test_hiclr_s_frames_are_uniform():
    masker, x = TemporalMask(0.5), torch.zeros(1, 1, 6, 1, 1)
    kept = torch.stack([masker(x, 6)[0, :, 0, 0, 0] for _ in range(2000)])
    assert (kept.mean(0) - 0.5).abs().max() < 0.05
    assert repr(masker) == "TemporalMask(mask_ratio=0.5)"


# SCD-Net's mask


@pytest.mark.parametrize("name", SKELETONS)
def test_neighbourhood_mask(name):
    skeleton = Skeleton.builtin(name)
    V = skeleton.num_joints
    masker = NeighbourhoodMask(skeleton, drawn=4, masked=7, seed=V)
    x = randn(1 if V == 17 else 3, 3, 4, V, 2)
    drawn = (ak.philox(seed_tensor(V), len(x), 4) * V) // 2**32
    expected = x.clone()
    for clip, seeds in enumerate(drawn.tolist()):
        score = [0] * V
        for seed in seeds:  # every walk of two steps, where a step may stay
            for step in [seed, *skeleton.adjacency[seed].nonzero()[0].tolist()]:
                for end in [step, *skeleton.adjacency[step].nonzero()[0].tolist()]:
                    score[end] += 1
        worst = sorted(range(V), key=lambda joint, score=score: (score[joint], joint))[-7:]
        expected[clip, :, :, worst] = 0
    for turned in layouts(x).values():
        masker.rng.copy_(seed_tensor(V))
        assert torch.equal(masker(turned), expected)
    (gradient,) = gradients(NeighbourhoodMask(skeleton, drawn=4, masked=7, seed=V), x)
    assert torch.equal(gradient != 0, expected != 0)
    assert repr(masker) == "NeighbourhoodMask(drawn=4, masked=7)"


def test_neighbourhood_mask_masks_neighbours():
    """Masked joints lie together: more of their edges are within than of as many joints by chance."""
    skeleton = Skeleton.builtin("ntu25")
    masked = (NeighbourhoodMask(skeleton).joints(2000) < 0).double()
    a, b = torch.tensor(skeleton.edges).T
    within = (masked[:, a] * masked[:, b]).sum(1).mean()
    assert (masked.sum(1) == 8).all() and within > 2 * 24 * (8 * 7) / (25 * 24)
    assert NeighbourhoodMask(skeleton)(torch.ones(0, 3, 4, 25, 2)).shape == (0, 3, 4, 25, 2)


# All of them


def test_nothing_reads_the_device():
    """torch.compile without graph breaks: a number read on the host would break the graph."""
    x, tokens, patches = torch.randn(2, 3, 12, 25, 1), torch.randn(2, 50, 4), torch.randn(2, 2, 25, 3)
    skeleton = Skeleton.builtin("ntu25")
    maskers = [Jointmask(0.5), Jointmask2(0.5), TemporalMask(0.5)]
    neighbours, central = NeighbourhoodMask(skeleton), CentralSpatialMask(skeleton)

    def step(x, tokens, patches, rng):
        return (
            [masker(x, 9) for masker in maskers],
            neighbours(x),
            central(rows=2).kept,
            random_masking(tokens, 0.5, rng=rng),
            motion_aware_random_masking(tokens, patches, 0.5, 0.75, rng=rng),
            frame_random_masking(x[..., 0], 0.5, rng=rng),
            motion_att_temp_mask(x, 3, rng=rng),
        )

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend="eager")(x, tokens, patches, RNG)
    assert neighbours.rng.tolist() == [0, 1], "the state goes on in a compiled step too"
    for masker in (*maskers, neighbours, central):
        masker.rng.zero_()
    torch.testing.assert_close(compiled, step(x, tokens, patches, RNG))


X = torch.ones(2, 3, 12, 25, 2)
TOKENS = torch.ones(2, 50, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: random_masking(X, 0.5, rng=RNG), r"random_masking: x must be \(N, L, D\), got shape"),
        (lambda: random_masking(TOKENS, 1.5, rng=RNG), r"random_masking: mask_ratio must be in \[0, 1\], got 1.5"),
        (lambda: random_masking(TOKENS, 0.5), "one of rng and noise must be given, got neither"),
        (lambda: motion_aware_random_masking(TOKENS, X, 0.5, 1, rng=RNG), r"x_orig must be \(N, TP, VP, numbers of"),
        (
            lambda: motion_aware_random_masking(TOKENS, torch.ones(2, 5, 9, 3), 0.5, 1, rng=RNG),
            r"x must be \(N, TP \* VP, D\) = \(2, 45, D\) by x_orig \(2, 5, 9, 3\), got \(2, 50, 4\)",
        ),
        (lambda: motion_aware_random_masking(TOKENS, torch.ones(2, 5, 10, 3), 0.5, 0, rng=RNG), "tau must be > 0"),
        (
            lambda: motion_aware_random_masking(TOKENS, torch.ones(2, 5, 10, 3, device="meta"), 0.5, 1, rng=RNG),
            "motion_aware_random_masking: x_orig must be on cpu, got meta",
        ),
        (lambda: frame_random_masking(X, 0.5, rng=RNG), r"frame_random_masking: x must be \(N, C, T, V\)"),
        (lambda: frame_random_masking(X[..., 0], -1, rng=RNG), r"masking_ratio must be in \[0, 1\], got -1"),
        (
            lambda: frame_random_masking(X[..., 0], 0.99, rng=RNG),
            "at least one frame must stay, got masking_ratio = 0.99",
        ),
        (lambda: motion_att_temp_mask(X, 6, rng=RNG), r"frame_drop: extra must be in \[0, T - drop\), got 6"),
        (lambda: CentralSpatialMask(Skeleton.builtin("ntu25"), 26)(), r"joint_mask: k must be in \[0, V\], got 26"),
        (lambda: CentralSpatialMask(Skeleton.builtin("ntu25"), mode="all")(), "joint_mask: mode must be one of"),
        (lambda: Jointmask(1.0), r"Jointmask: mask_ratio must be in \[0, 1\), got 1.0"),
        (lambda: Jointmask(0.1, person_num=1)(X, 12), "Jointmask: data must have person_num = 1, got shape"),
        (lambda: Jointmask2(0.1, joint_num=20)(X, 12), "Jointmask2: data must have joint_num = 20, got shape"),
        (lambda: TemporalMask(0.1, channel_num=2)(X, 12), "TemporalMask: data must have channel_num = 2, got shape"),
        (lambda: TemporalMask(0.1)(X, 13), r"TemporalMask: frame must be in \[1, T\], got 13 with T = 12"),
        (lambda: TemporalMask(0.1)(X, 0), r"TemporalMask: frame must be in \[1, T\], got 0 with T = 12"),
        (lambda: Jointmask(0.1)(TOKENS, 3), r"Jointmask: data must be \(N, C, T, V, M\), got shape"),
        (lambda: Jointmask(0.1)(X.to("meta"), 3), "Jointmask: data must be on cpu, got meta"),
        (lambda: NeighbourhoodMask(Skeleton.builtin("ntu25"), drawn=0), "drawn must be at least 1, got 0"),
        (lambda: NeighbourhoodMask(Skeleton.builtin("ucla20"), masked=21), r"masked must be in \[0, V\], got 21 with"),
        (
            lambda: NeighbourhoodMask(Skeleton.builtin("ucla20"))(X),
            "NeighbourhoodMask: x must have 20 joints, got shape",
        ),
        (
            lambda: NeighbourhoodMask(Skeleton.builtin("ntu25"))(TOKENS),
            r"NeighbourhoodMask: x must be \(N, C, T, V, M\)",
        ),
        (lambda: NeighbourhoodMask(Skeleton.builtin("ntu25"))(X.to("meta")), "NeighbourhoodMask: x must be on cpu"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_wrong_dtypes():
    with pytest.raises(TypeError, match="motion_aware_random_masking: x_orig must be float64"):
        motion_aware_random_masking(TOKENS, torch.ones(2, 5, 10, 3, dtype=torch.int64), 0.5, 1, rng=RNG)
    with pytest.raises(TypeError, match="frame_random_masking: x must be float64"):
        frame_random_masking(X[..., 0].int(), 0.5, rng=RNG)
