import pytest
import torch

from asma_kernels import Skeleton, draws, joint_mask, skeleton_view, view_draw
from asma_kernels.draws import Views, compose, draw_crop, draw_flip, draw_rotation, draw_shear
from asma_kernels.rng import Draws, seed_tensor

NTU = Skeleton.builtin("ntu25")
RNG = seed_tensor(9, call=2)


@pytest.mark.parametrize("per_clip", [True, False])
def test_pieces_are_those_of_one_draw(per_clip):
    flip = torch.tensor(NTU.flip)
    frames, joints, _ = view_draw(RNG, 20, 50, 8, flip=flip, p=0.4, per_clip=per_clip)
    crop = draw_crop(RNG, 20, 50, per_clip=per_clip)
    assert torch.equal(crop, frames)
    assert torch.equal(draw_flip(RNG, 20, NTU, 0.4, per_clip=per_clip), joints)
    assert torch.equal(draw_flip(RNG, 20, flip, 0.4, per_clip=per_clip), joints)
    shear, rotation = draw_shear(RNG, 20, 0.5, per_clip=per_clip), draw_rotation(RNG, 20, per_clip=per_clip)
    assert torch.equal(shear, view_draw(RNG, 20, 0, shear=0.5, per_clip=per_clip)[2])
    assert torch.equal(rotation, view_draw(RNG, 20, 0, rotation=(30, 1), per_clip=per_clip)[2])
    for piece in (crop, joints, shear, rotation):
        assert len(piece.unique(dim=0)) == 1 if not per_clip else len(piece.unique(dim=0)) > 1


def test_crop_repeats_the_end_frames_and_the_flip_leaves_the_trunk():
    frames = draw_crop(RNG, 500, 12, pad_ratio=4)
    assert sorted(clip[0] for clip in frames.unique(dim=0).tolist()) == [0, 0, 1, 1, 2, 2, 3]
    assert [2, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8] in frames.tolist()
    assert [3, 4, 5, 6, 7, 8, 9, 10, 11, 11, 10, 9] in frames.tolist()
    assert torch.equal(draw_crop(RNG, 5, 5), torch.arange(5).expand(5, 5))  # 5 // 6 frames of padding: none
    flipped = draw_flip(RNG, 2, NTU, p=1.0)
    assert torch.equal(flipped, torch.tensor(NTU.flip).expand(2, 25))
    assert flipped[0, [0, 1, 2, 3, 20]].tolist() == [0, 1, 2, 3, 20]


def test_compose_picks_from_what_is_picked():
    frames = torch.stack([torch.randperm(9) for _ in range(3)])
    kept = torch.tensor([[0, 3, 8], [1, 1, -1], [5, -1, 2]])
    by_hand = [[-1 if k < 0 else int(frames[n, k]) for k in row] for n, row in enumerate(kept.tolist())]
    assert compose(frames, kept).tolist() == by_hand
    assert compose(frames, kept[1]).tolist() == [[int(row[1]), int(row[1]), -1] for row in frames]
    assert compose(frames[0], kept).tolist() == [[-1 if k < 0 else int(frames[0, k]) for k in row] for row in kept]
    assert compose(frames[0], kept[0]).tolist() == frames[0, kept[0]].tolist()
    assert compose(None, kept) is kept
    assert compose(frames, kept[:, :0]).shape == (3, 0)


def test_view_and_both_masks_in_one_pass():
    N, T, x, stream = 6, 50, torch.randn(6, 3, 50, 25, 2), Draws(seed=4)
    for views in (Views.of(NTU, mirror=True), Views(flip=None)):
        frames, joints, matrix = views.draw(stream.next(), N, T)
        kept_frames = torch.stack([torch.randperm(T)[:30].sort().values for _ in range(N)])
        kept_joints = joint_mask(NTU.degrees, 8, N, stream.next(), shared=False).kept
        both = skeleton_view(x, compose(frames, kept_frames), compose(joints, kept_joints), matrix)
        assert both.shape == (N, 3, 30, 17, 2)
        whole = skeleton_view(x, frames, joints, matrix)
        torch.testing.assert_close(both, skeleton_view(whole, kept_frames, kept_joints))


def test_views_draw_what_they_are_set_to():
    views = Views.of(NTU, shear=0.25, rotation=(10.0, 2.0), crop=5, p=0.9, mirror=True, per_clip=False)
    expected = view_draw(RNG, 4, 30, 6, 0.25, (10.0, 2.0), torch.tensor(NTU.flip), 0.9, True, False)
    for piece, wanted in zip(views.draw(RNG, 4, 30), expected, strict=True):
        assert torch.equal(piece, wanted)
    frames, joints, matrix = Views(shear=0, rotation=(0, 0), crop=0).draw(RNG, 4, 30)
    assert torch.equal(frames, torch.arange(30).expand(4, 30)) and joints is None
    assert torch.equal(matrix, torch.eye(3).expand(4, 3, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_crop(RNG, 2, 10, pad_ratio=0), "draw_crop: the pad ratio must be >= 1, got 0"),
        (lambda: Views(crop=-2).draw(RNG, 2, 10), "Views: the pad ratio must be >= 1, got -2"),
        (lambda: draw_flip(RNG, 2, Skeleton.from_edges([(0, 1)])), "Skeleton.flip: 'custom' has none"),
        (lambda: compose(torch.zeros(2, 3), torch.zeros(2, 3).long()), "compose: indices must be torch.int64"),
        (lambda: compose(None, torch.tensor(1)), r"compose: kept must have one or two axes, got shape \(\)"),
        (lambda: compose(*(torch.zeros(n, 3).long() for n in (2, 4))), "must be of the same clips, got 2 and 4"),
    ],
)
def test_wrong_arguments_end_in_one_sentence(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_everything_public_is_named():
    assert {name for name in draws.__all__ if not hasattr(draws, name)} == set()
