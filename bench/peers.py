"""The same work as peers write it in eager PyTorch: our own transcriptions of the formulas of PSTL (arXiv 2302.09018),
ST-GCN (1801.07455), graph convolutions after it (pyskl, 2s-AGCN, CTR-GCN, Decoupling GCN, DG-STGCN) and Barlow Twins
(2103.03230), kept as plain as theirs are. Random parameters are arguments, so that the correctness gate can hand both
sides the same ones; the timed calls draw them as the peers do, on the host."""

from __future__ import annotations

import math
import random

import torch
from torch.nn import functional

DEGREES = [3, 2, 2, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 1, 4, 1, 2, 1, 2]
FLIP = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22]


def masked_frames(x: torch.Tensor, drop: int, places: list[int]) -> torch.Tensor:
    """PSTL's temporal mask: the ``drop`` frames of most motion go, then only ``places`` of the others stay."""
    N, C, T, V, M = x.shape
    clip = x.clone()
    motion = torch.zeros_like(clip)
    motion[:, :, :-1] = clip[:, :, 1:] - clip[:, :, :-1]
    attention = (-(motion**2)).mean((1, 3, 4))
    _, kept = torch.topk(attention, T - drop)
    kept, _ = torch.sort(kept)
    index = kept[:, None, :, None, None].expand(N, C, T - drop, V, M).contiguous()
    return clip.gather(2, index)[:, :, places]


def random_places(T: int, drop: int) -> list[int]:
    return sorted(random.sample(range(T - drop), T - 2 * drop))


def crop(x: torch.Tensor, start: int, pad_ratio: int = 6) -> torch.Tensor:
    T = x.shape[2]
    pad = T // pad_ratio
    long = torch.cat([x[:, :, :pad].flip(2), x, x[:, :, -pad:].flip(2)], 2)
    return long[:, :, start : start + T]


def shear(x: torch.Tensor, matrix: list[list[float]]) -> torch.Tensor:
    return torch.einsum("nctvm,cd->ndtvm", x.clone(), torch.tensor(matrix, device=x.device).T)


def rotate(x: torch.Tensor, angles: tuple[float, float, float]) -> torch.Tensor:
    """About x, then y, then z, by radians: one einsum an axis."""
    x = x.clone()
    for axis, angle in enumerate(angles):
        x = torch.einsum("nctvm,cd->ndtvm", x, torch.tensor(turn(axis, angle), device=x.device).T)
    return x


def turn(axis: int, angle: float) -> list[list[float]]:
    c, s = math.cos(angle), math.sin(angle)
    return [[[1, 0, 0], [0, c, s], [0, -s, c]], [[c, 0, -s], [0, 1, 0], [s, 0, c]], [[c, s, 0], [-s, c, 0], [0, 0, 1]]][
        axis
    ]


def flip(x: torch.Tensor, turned: bool) -> torch.Tensor:
    x = x.clone()
    return x[:, :, :, FLIP] if turned else x


def view(
    x: torch.Tensor, start: int, sheared: list[list[float]], angles: tuple[float, ...], turned: bool
) -> torch.Tensor:
    return flip(rotate(shear(crop(x, start), sheared), angles), turned)  # type: ignore[arg-type]


def random_view(T: int, amplitude: float = 1.0, flip: bool | None = None) -> tuple:
    """Start, shear matrix, angles, flip: one draw for the batch, as PSTL does."""
    u = random.uniform
    matrix = [[1.0 if i == j else u(-amplitude, amplitude) for j in range(3)] for i in range(3)]
    main = random.randint(0, 2)
    angles = tuple(math.radians(u(0, 30 if axis == main else 1)) for axis in range(3))
    turned = random.random() < 0.5 if flip is None else flip
    return random.randint(0, 2 * (T // 6)), matrix, angles, turned


def masked_joints(rows: int, k: int) -> torch.Tensor:
    """Degree-weighted joints of each clip, by random.sample over the token list, and the joints that remain."""
    tokens = [joint for joint, degree in enumerate(DEGREES) for _ in range(degree)]
    mask = torch.zeros(rows, len(DEGREES), dtype=torch.bool)
    for row in range(rows):
        mask[row, random.sample(tokens, k)] = True
    return mask


def graph_conv(x, weight, bias, A, importance):
    """ST-GCN's ConvTemporalGraphical with edge importance."""
    hidden = functional.conv2d(x, weight, bias)
    N, KD, T, V = hidden.shape
    return torch.einsum(
        "nkctv,kvw->nctw", hidden.view(N, A.shape[0], KD // A.shape[0], T, V), A * importance
    ).contiguous()


def st_gcn(x, A, weight, bias):
    """ST-GCN with a dense, learned adjacency (K, V, W), pyskl's adaptive 'init'."""
    N, _, T, V = x.shape
    hidden = functional.conv2d(x, weight, bias).view(N, len(A), -1, T, V)
    return torch.einsum("nkctv,kvw->nctw", hidden, A).contiguous()


def pyskl_post(x, A, weight, bias):
    """pyskl's conv_pos='post'."""
    N, _, T, V = x.shape
    return functional.conv2d(torch.einsum("nctv,kvw->nkctw", x, A).contiguous().view(N, -1, T, V), weight, bias)


def agcn(x, A, weight, bias):
    """2s-AGCN: a product and a convolution a subset, A (N, K, V, W); its convolutions' weights side by side."""
    N, C, T, V = x.shape
    sums = None
    for k in range(A.shape[1]):
        aggregated = torch.matmul(x.view(N, C * T, V), A[:, k]).view(N, C, T, V)
        part = functional.conv2d(aggregated, weight[:, k * C : (k + 1) * C])
        sums = part if sums is None else sums + part
    return sums + bias[:, None, None]


def ctr_gcn(x, A, weight, bias):
    """CTR-GCN, one subset: A (N, C, W, V), from the left."""
    return torch.einsum("ncuv,nctv->nctu", A, functional.conv2d(x, weight, bias))


def decoupling(x, A, weight, bias):
    """Decoupling GCN: A (K, G, V, W), its groups repeated to the channels."""
    N, _, T, V = x.shape
    hidden = functional.conv2d(x, weight, bias).view(N, len(A), -1, T, V)
    return torch.einsum("nkctv,kcvw->nctw", hidden, A.repeat(1, hidden.shape[2] // A.shape[1], 1, 1)).contiguous()


def dg_stgcn(x, A, weight, bias):
    """DG-STGCN: A (N, K, C, V, W), subsets kept apart."""
    N, K, _, V, _ = A.shape
    hidden = functional.conv2d(x, weight, bias).view(N, K, -1, x.shape[2], V)
    return torch.einsum("nkctv,nkcvw->nkctw", hidden, A).contiguous().view(N, -1, x.shape[2], V)


def barlow_twins(z1: torch.Tensor, z2: torch.Tensor, lambd: float = 2e-4) -> torch.Tensor:
    """With the D x D matrix."""
    N, D = z1.shape
    z1 = functional.batch_norm(z1, None, None, training=True)
    z2 = functional.batch_norm(z2, None, None, training=True)
    c = (z1.T @ z2).div_(N)
    on = torch.diagonal(c).add(-1).pow(2).sum()
    off = c.flatten()[:-1].view(D - 1, D + 1)[:, 1:].flatten().pow(2).sum()
    return on + lambd * off
