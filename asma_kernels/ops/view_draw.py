"""Random crops, shears, rotations and flips, drawn on the device: what skeleton_view is given."""

from __future__ import annotations

import math

import torch

from .. import _check, _register
from .._dispatch import choose, ops_of
from ..reference import view_draw as reference


def view_draw(
    rng: torch.Tensor,
    N: int,
    T: int,
    pad: int = 0,
    shear: float = 0.0,
    rotation: tuple[float, float] = (0.0, 0.0),
    flip: torch.Tensor | None = None,
    p: float = 0.5,
    mirror: bool = False,
    per_clip: bool = True,
    *,
    backend: str = "auto",
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """Draw the view of N clips in one kernel: ``skeleton_view(x, *view_draw(rng, N, T, ...))``.

    Clip n draws the words (n, 0) ... (n, 11) of :func:`asma_kernels.philox`: one for the crop, six for the shear, four
    for the rotation, one for the flip. So a piece is the same whether it is drawn with the others or alone.

    Args:
        rng: ``[seed, call]``, int64, on the device that the view is wanted on (see :mod:`asma_kernels.rng`).
        N: clips.
        T: frames of a clip, below 2^30.
        pad: frames that the clip is reflected by at both ends, the end frames repeated (``2 1 0 | 0 1 2 ...``), in
            [0, T]; the crop is a window of T frames with a random start. AimCLR and PSTL take ``T // 6``.
        shear: a, the off-diagonals are drawn from [-a, a). PSTL takes 1, AimCLR 0.5.
        rotation: largest angles in degrees. One axis, drawn for each clip, turns by [0, first), the other two by
            [0, second): ``R = R_z R_y R_x`` with R_x = [[1, 0, 0], [0, c, s], [0, -s, c]] and so on cyclically: for an
            eye that the axis points to, the clip turns clockwise. AimCLR and PSTL take (30, 1).
        flip: ``Skeleton.flip`` as a tensor (V,), int64, on rng's device: the joint that each one is in the mirror.
        p: probability of a flip, in [0, 1].
        mirror: a flipped clip also has its x coordinate negated, as in a mirror. AimCLR and PSTL only exchange the
            joints: left becomes right where it is.
        per_clip: one draw a clip; False gives all clips the draw of clip 0, as PSTL does.
        backend: auto, cpu, cuda, triton or reference.

    Returns:
        frames (N, T) int64; joints (N, V) int64, None without ``flip``; matrix (N, 3, 3) float32, which shears first,
        then rotates, then mirrors column vectors. Frames and joints are bit-equal on every backend, the matrix is as
        near as their sines are.

    Deterministic, the same for any number of threads; no gradient. Sources: AimCLR (arXiv 2112.03590), feeder/tools.py;
    PSTL (arXiv 2302.09018), section 4.2.

    Raises:
        ValueError, TypeError: an argument breaks a rule above.

    Example:
        >>> import torch, asma_kernels
        >>> rng = asma_kernels.rng.seed_tensor(7)
        >>> frames, joints, matrix = asma_kernels.view_draw(rng, N=2, T=6, pad=1, flip=torch.tensor([0, 2, 1]))
        >>> frames.shape, joints.shape, matrix.shape
        (torch.Size([2, 6]), torch.Size([2, 3]), torch.Size([2, 3, 3]))
    """
    _check.rng("view_draw", rng)
    if not 0 <= N < 2**32 or not 0 <= T < 2**30:
        raise ValueError(f"view_draw: N must be in [0, 2^32) and T in [0, 2^30), got {N} and {T}")
    if not 0 <= pad <= T:
        raise ValueError(f"view_draw: pad must be in [0, T], got {pad} with T = {T}")
    main, other = rotation
    for name, value in (("shear", shear), ("rotation", main), ("rotation", other)):
        if not 0 <= value < math.inf:
            raise ValueError(f"view_draw: {name} must be finite and >= 0, got {value}")
    if not 0 <= p <= 1:
        raise ValueError(f"view_draw: p must be in [0, 1], got {p}")
    if flip is not None:
        _check.dim("view_draw", "flip", flip, "V")
        _check.dtype("view_draw", "flip", flip, torch.int64)
        _check.same_device("view_draw", "flip", flip, rng)
        flip = flip.contiguous()
    elif mirror:
        raise ValueError("view_draw: mirror needs flip, the joints that change places")
    arguments = (
        rng,
        N,
        T,
        pad,
        float(shear),
        math.radians(main),
        math.radians(other),
        flip,
        round(p * 2**32),
        mirror,
        per_clip,
    )
    chosen = choose("view_draw", backend, rng.device)
    if chosen == "reference":
        frames, joints, matrix = reference.view_draw(*arguments)
    else:
        frames, joints, matrix = ops_of(chosen).view_draw(*arguments)
    return frames, None if flip is None else joints, matrix


def _fake(
    rng: torch.Tensor,
    N: int,
    T: int,
    pad: int,
    shear: float,
    main: float,
    other: float,
    flip: torch.Tensor | None,
    flip_below: int,
    mirror: bool,
    per_clip: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    V = 0 if flip is None else flip.shape[0]
    return rng.new_empty(N, T), rng.new_empty(N, V), rng.new_empty((N, 3, 3), dtype=torch.float32)


_register.fake("view_draw", _fake)
_register.fallback("view_draw", reference.view_draw)
_register.triton("view_draw", _fake)
