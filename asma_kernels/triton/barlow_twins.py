"""Barlow Twins: with N < D from the Gram matrices of the standardised rows, else from c, both in tiles of one product.

Bytes: the statistics read z1 and z2 twice; the products read them once for each row and once for each column of tiles
and write splits x size^2 numbers; the backward reads z1 and z2 once for each row of tiles and twice more, the products
once for each column of tiles, and writes and reads its halves (N, D) once. Flops: N^2 D for each Gram matrix (it is
symmetric), 2 N D^2 for c, and 4 N D min(N, D) of the backward.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._config import LAUNCH

_SIZES = ["N", "D"]


@triton.jit
def _rows(z, z_n, z_d, n, d, N, D):
    wide: tl.constexpr = tl.float64 if z.dtype.element_ty == tl.float64 else tl.float32
    inside = (n < N)[:, None] & (d < D)[None, :]
    return tl.load(z + n[:, None] * z_n + d[None, :] * z_d, mask=inside, other=0).to(wide)


@triton.jit
def _standardised(z, z_n, z_d, statistics, n, d, N, D, SIDE: tl.constexpr):
    """Zeros outside. What rounding takes from the mean is put back, so columns are centred however far from zero."""
    value = _rows(z, z_n, z_d, n, d, N, D)
    of_side = statistics + 2 * SIDE * D.to(tl.int64) + d
    exact = tl.load(of_side, mask=d < D, other=0)
    inverse = tl.load(of_side + D, mask=d < D, other=0)
    mean = exact.to(value.dtype)
    shift = ((mean.to(tl.float64) - exact) * inverse).to(value.dtype)
    value = (value - mean[None, :]) * inverse.to(value.dtype)[None, :] + shift[None, :]
    return tl.where((n < N)[:, None] & (d < D)[None, :], value, 0)


@triton.jit(do_not_specialize=_SIZES)
def barlow_twins_statistics_kernel(
    z1, z2, statistics, N, D, z1_n, z1_d, z2_n, z2_d,
    EPS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    wide: tl.constexpr = tl.float64 if z1.dtype.element_ty == tl.float64 else tl.float32
    d = tl.program_id(0).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)
    off1 = tl.zeros((BLOCK_N, BLOCK_D), wide)
    off2 = tl.zeros((BLOCK_N, BLOCK_D), wide)
    for first in range(0, N, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N).to(tl.int64)
        off1 += _rows(z1, z1_n, z1_d, n, d, N, D)
        off2 += _rows(z2, z2_n, z2_d, n, d, N, D)
    mean1 = tl.sum(off1, 0) / N.to(wide)
    mean2 = tl.sum(off2, 0) / N.to(wide)

    # Deviations are taken from a mean that is a little off; their own mean then puts it right.
    off1 = tl.zeros((BLOCK_N, BLOCK_D), wide)
    off2 = tl.zeros((BLOCK_N, BLOCK_D), wide)
    square1 = tl.zeros((BLOCK_N, BLOCK_D), wide)
    square2 = tl.zeros((BLOCK_N, BLOCK_D), wide)
    cross = tl.zeros((BLOCK_N, BLOCK_D), wide)
    for first in range(0, N, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N).to(tl.int64)
        one = tl.where((n < N)[:, None], _rows(z1, z1_n, z1_d, n, d, N, D) - mean1[None, :], 0)
        two = tl.where((n < N)[:, None], _rows(z2, z2_n, z2_d, n, d, N, D) - mean2[None, :], 0)
        off1 += one
        off2 += two
        square1 += one * one
        square2 += two * two
        cross += one * two
    scale = 1 / N.to(tl.float64)
    of1 = tl.sum(off1.to(tl.float64), 0) * scale
    of2 = tl.sum(off2.to(tl.float64), 0) * scale
    inverse1 = 1 / tl.sqrt(tl.sum(square1.to(tl.float64), 0) * scale - of1 * of1 + EPS)
    inverse2 = 1 / tl.sqrt(tl.sum(square2.to(tl.float64), 0) * scale - of2 * of2 + EPS)
    covariance = tl.sum(cross.to(tl.float64), 0) * scale - of1 * of2

    to, step = statistics + d, D.to(tl.int64)
    tl.store(to, mean1.to(tl.float64) + of1, mask=d < D)
    tl.store(to + step, inverse1, mask=d < D)
    tl.store(to + 2 * step, mean2.to(tl.float64) + of2, mask=d < D)
    tl.store(to + 3 * step, inverse2, mask=d < D)
    tl.store(to + 4 * step, covariance * inverse1 * inverse2, mask=d < D)


@triton.jit
def _gram_part(
    z, z_n, z_d, statistics, to, i, j, first, last, N, D, inside,
    SIDE: tl.constexpr, PRECISION: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    wide: tl.constexpr = tl.float64 if z.dtype.element_ty == tl.float64 else tl.float32
    total = tl.zeros((i.shape[0], j.shape[0]), wide)
    for k in range(first, last, BLOCK_K):
        d = k + tl.arange(0, BLOCK_K).to(tl.int64)
        left = _standardised(z, z_n, z_d, statistics, i, d, N, D, SIDE)
        right = _standardised(z, z_n, z_d, statistics, j, d, N, D, SIDE)
        total = tl.dot(left, tl.trans(right), total, input_precision=PRECISION, out_dtype=wide)
    tl.store(to, total, mask=inside)


@triton.jit(do_not_specialize=[*_SIZES, "per_split"])
def barlow_twins_products_kernel(
    z1, z2, statistics, parts, N, D, z1_n, z1_d, z2_n, z2_d, per_split,
    GRAM: tl.constexpr, PRECISION: tl.constexpr, BLOCK: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Of the Gram matrices, which are symmetric, the tiles on and below the diagonal."""
    wide: tl.constexpr = tl.float64 if z1.dtype.element_ty == tl.float64 else tl.float32
    size = N if GRAM else D
    depth = D if GRAM else N
    part = tl.program_id(2)
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    j = tl.program_id(1).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = (i < size)[:, None] & (j < size)[None, :]
    to = parts + (part.to(tl.int64) * size + i[:, None]) * size + j[None, :]
    first = (part // 2 if GRAM else part) * per_split
    last = tl.minimum(first + per_split, depth)
    if GRAM:
        if tl.program_id(0) >= tl.program_id(1):
            if part % 2 == 0:
                _gram_part(
                    z1, z1_n, z1_d, statistics, to, i, j, first, last, N, D, inside, 0, PRECISION, BLOCK_K
                )  # fmt: skip
            else:
                _gram_part(
                    z2, z2_n, z2_d, statistics, to, i, j, first, last, N, D, inside, 1, PRECISION, BLOCK_K
                )  # fmt: skip
    else:
        total = tl.zeros((BLOCK, BLOCK), wide)
        for k in range(first, last, BLOCK_K):
            n = k + tl.arange(0, BLOCK_K).to(tl.int64)
            left = _standardised(z1, z1_n, z1_d, statistics, n, i, N, D, 0)
            right = _standardised(z2, z2_n, z2_d, statistics, n, j, N, D, 1)
            total = tl.dot(tl.trans(left), right, total, input_precision=PRECISION, out_dtype=wide)
        tl.store(to, total, mask=inside)


@triton.jit(do_not_specialize=["size", "splits"])
def barlow_twins_reduce_kernel(parts, products, sums, size, splits, GRAM: tl.constexpr, BLOCK: tl.constexpr):
    """The parts summed, and for each program its share of N^2 sum c_ij^2; with N >= D without the diagonal."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    area = size.to(tl.int64) * size
    row, column = place // size, place % size
    at = parts + (tl.maximum(row, column) * size + tl.minimum(row, column) if GRAM else place)
    one = tl.zeros((BLOCK,), tl.float64)
    two = tl.zeros((BLOCK,), tl.float64)
    for split in range(splits):
        if GRAM:
            one += tl.load(at + 2 * split * area, mask=place < area, other=0).to(tl.float64)
            two += tl.load(at + (2 * split + 1) * area, mask=place < area, other=0).to(tl.float64)
        else:
            one += tl.load(at + split * area, mask=place < area, other=0).to(tl.float64)
    tl.store(products + place, one, mask=place < area)
    if GRAM:
        tl.store(products + area + place, two, mask=place < area)
        one *= two
    else:
        one = tl.where(row == column, 0, one * one)
    tl.store(sums + tl.program_id(0), tl.sum(one, 0))


@triton.jit(do_not_specialize=[*_SIZES, "count"])
def barlow_twins_loss_kernel(
    statistics, sums, loss, N, D, count, LAMBD: tl.constexpr, GRAM: tl.constexpr, BLOCK: tl.constexpr
):
    on = tl.zeros((BLOCK,), tl.float64)
    off = tl.zeros((BLOCK,), tl.float64)
    for first in range(0, count, BLOCK):
        place = first + tl.arange(0, BLOCK).to(tl.int64)
        off += tl.load(sums + place, mask=place < count, other=0)
    scale = 1 / N.to(tl.float64)
    off *= scale * scale
    for first in range(0, D, BLOCK):
        d = first + tl.arange(0, BLOCK).to(tl.int64)
        c = tl.load(statistics + 4 * D.to(tl.int64) + d, mask=d < D, other=0)
        on += tl.where(d < D, (c - 1) * (c - 1), 0)
        if GRAM:
            off -= c * c
    tl.store(loss, tl.sum(on, 0) + LAMBD * tl.sum(off, 0))


@triton.jit
def _gradient_part(
    own, own_n, own_d, other, other_n, other_d, statistics, products, out, squares, N, D,
    SIDE: tl.constexpr, GRAM: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    wide: tl.constexpr = tl.float64 if own.dtype.element_ty == tl.float64 else tl.float32
    n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.program_id(1).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)
    total = tl.zeros((BLOCK_N, BLOCK_D), wide)
    if GRAM:
        gram = products + ((1 - SIDE) * N.to(tl.int64) + n[:, None]) * N
        for first in range(0, N, BLOCK_K):
            k = first + tl.arange(0, BLOCK_K).to(tl.int64)
            left = tl.load(gram + k[None, :], mask=(n < N)[:, None] & (k < N)[None, :], other=0)
            right = _standardised(own, own_n, own_d, statistics, k, d, N, D, SIDE)
            total = tl.dot(left, right, total, input_precision=PRECISION, out_dtype=wide)
    else:
        for first in range(0, D, BLOCK_K):
            k = first + tl.arange(0, BLOCK_K).to(tl.int64)
            left = _standardised(other, other_n, other_d, statistics, n, k, N, D, 1 - SIDE)
            if SIDE == 0:
                inside = (d < D)[:, None] & (k < D)[None, :]
                right = tl.trans(tl.load(products + d[:, None] * D + k[None, :], mask=inside, other=0))
            else:
                inside = (k < D)[:, None] & (d < D)[None, :]
                right = tl.load(products + k[:, None] * D + d[None, :], mask=inside, other=0)
            total = tl.dot(left, right, total, input_precision=PRECISION, out_dtype=wide)
    total *= 1 / N.to(wide)
    tl.store(out + n[:, None] * D + d[None, :], total, mask=(n < N)[:, None] & (d < D)[None, :])
    along = tl.sum(total * _standardised(own, own_n, own_d, statistics, n, d, N, D, SIDE), 0)
    tl.store(squares + (tl.program_id(0).to(tl.int64) * 2 + SIDE) * D + d, along, mask=d < D)


@triton.jit(do_not_specialize=_SIZES)
def barlow_twins_backward_products_kernel(
    z1, z2, statistics, products, out1, out2, squares, N, D, z1_n, z1_d, z2_n, z2_d,
    GRAM: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Half the gradient of N sum c_ij^2 in Z, and for each tile of rows the sums over n of it times Z."""
    if tl.program_id(2) == 0:
        _gradient_part(
            z1, z1_n, z1_d, z2, z2_n, z2_d, statistics, products, out1, squares, N, D,
            0, GRAM, PRECISION, BLOCK_N, BLOCK_D, BLOCK_K,
        )  # fmt: skip
    else:
        _gradient_part(
            z2, z2_n, z2_d, z1, z1_n, z1_d, statistics, products, out2, squares, N, D,
            1, GRAM, PRECISION, BLOCK_N, BLOCK_D, BLOCK_K,
        )  # fmt: skip


@triton.jit(do_not_specialize=[*_SIZES, "tiles"])
def barlow_twins_backward_terms_kernel(
    grad, statistics, squares, terms, N, D, tiles, LAMBD: tl.constexpr, BLOCK: tl.constexpr
):
    """Of each column: the factor of the other side's Z, and for either side that of its own."""
    d = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    square1 = tl.zeros((BLOCK,), tl.float64)
    square2 = tl.zeros((BLOCK,), tl.float64)
    for tile in range(tiles):
        of_tile = squares + 2 * tile * D.to(tl.int64) + d
        square1 += tl.load(of_tile, mask=d < D, other=0).to(tl.float64)
        square2 += tl.load(of_tile + D, mask=d < D, other=0).to(tl.float64)
    inverse = 1 / N.to(tl.float64)
    scale = 2 * inverse * tl.load(grad).to(tl.float64)
    c = tl.load(statistics + 4 * D.to(tl.int64) + d, mask=d < D, other=0)
    on = scale * (c - 1) - LAMBD * scale * c
    tl.store(terms + d, on, mask=d < D)
    tl.store(terms + D + d, LAMBD * scale * inverse * square1 + on * c, mask=d < D)
    tl.store(terms + 2 * D.to(tl.int64) + d, LAMBD * scale * inverse * square2 + on * c, mask=d < D)


@triton.jit(do_not_specialize=_SIZES)
def barlow_twins_backward_kernel(
    grad, z1, z2, statistics, out1, out2, terms, grad_z1, grad_z2, N, D, z1_n, z1_d, z2_n, z2_d,
    LAMBD: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Through the standardisation. A mean of the gradient in Z need not be taken off: columns of Z have mean 0."""
    wide: tl.constexpr = tl.float64 if z1.dtype.element_ty == tl.float64 else tl.float32
    n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.program_id(1).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = (n < N)[:, None] & (d < D)[None, :]
    place = n[:, None] * D + d[None, :]
    one = _standardised(z1, z1_n, z1_d, statistics, n, d, N, D, 0)
    two = _standardised(z2, z2_n, z2_d, statistics, n, d, N, D, 1)
    step = D.to(tl.int64)
    inverse1 = tl.load(statistics + step + d, mask=d < D, other=0).to(wide)[None, :]
    inverse2 = tl.load(statistics + 3 * step + d, mask=d < D, other=0).to(wide)[None, :]
    on = tl.load(terms + d, mask=d < D, other=0)[None, :]
    along1 = tl.load(terms + step + d, mask=d < D, other=0)[None, :]
    along2 = tl.load(terms + 2 * step + d, mask=d < D, other=0)[None, :]
    off = (LAMBD * 2 / N.to(tl.float64) * tl.load(grad).to(tl.float64)).to(wide)
    product1 = tl.load(out1 + place, mask=inside, other=0)
    product2 = tl.load(out2 + place, mask=inside, other=0)
    tl.store(grad_z1 + place, inverse1 * (off * product1 + (on * two - along1 * one)), mask=inside)
    tl.store(grad_z2 + place, inverse2 * (off * product2 + (on * one - along2 * two)), mask=inside)


def _precision(z: torch.Tensor) -> str:
    return "tf32" if z.dtype != torch.float64 and torch.backends.cuda.matmul.allow_tf32 else "ieee"


def barlow_twins(
    z1: torch.Tensor, z2: torch.Tensor, lambd: float, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    N, D = z1.shape
    dtype = torch.float64 if z1.dtype == torch.float64 else torch.float32
    gram, size, depth = N < D, min(N, D), max(N, D)
    matrices = 2 if gram else 1
    loss, statistics = z1.new_empty((), dtype=dtype), z1.new_empty((5, D), dtype=torch.float64)
    products = z1.new_empty((matrices, size, size), dtype=dtype)
    blocks = triton.cdiv(size * size, LAUNCH["barlow_twins_reduce"]["BLOCK"])
    sums = z1.new_empty(blocks, dtype=torch.float64)
    if D:
        launch = LAUNCH["barlow_twins_statistics"]
        barlow_twins_statistics_kernel[(triton.cdiv(D, launch["BLOCK_D"]),)](
            z1, z2, statistics, N, D, *z1.stride(), *z2.stride(), EPS=eps, **launch
        )
        launch = LAUNCH["barlow_twins_products"].copy()
        programs = launch.pop("PROGRAMS")
        tiles, turns = triton.cdiv(size, launch["BLOCK"]), triton.cdiv(depth, launch["BLOCK_K"])
        wanted = max(1, programs // (tiles * (tiles + 1) if gram else tiles * tiles))
        per_split = triton.cdiv(turns, wanted) * launch["BLOCK_K"]
        splits = triton.cdiv(depth, per_split)
        parts = z1.new_empty((splits, matrices, size, size), dtype=dtype)
        barlow_twins_products_kernel[(tiles, tiles, splits * matrices)](
            z1, z2, statistics, parts, N, D, *z1.stride(), *z2.stride(), per_split,
            GRAM=gram, PRECISION=_precision(z1), **launch,
        )  # fmt: skip
        barlow_twins_reduce_kernel[(blocks,)](
            parts, products, sums, size, splits, GRAM=gram, **LAUNCH["barlow_twins_reduce"]
        )
    barlow_twins_loss_kernel[(1,)](
        statistics, sums, loss, N, D, blocks, LAMBD=lambd, GRAM=gram, **LAUNCH["barlow_twins_loss"]
    )
    return loss, statistics, products


def barlow_twins_backward(
    grad: torch.Tensor,
    z1: torch.Tensor,
    z2: torch.Tensor,
    statistics: torch.Tensor,
    products: torch.Tensor,
    lambd: float,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    N, D = z1.shape
    grad_z1, grad_z2 = z1.new_empty((N, D)), z1.new_empty((N, D))
    if D:
        # A program of the last kernel reads what it then writes over.
        halves = (grad_z1, grad_z2) if z1.dtype == products.dtype else z1.new_empty((2, N, D), dtype=products.dtype)
        strides = (*z1.stride(), *z2.stride())
        launch = LAUNCH["barlow_twins_backward_products"]
        tiles = triton.cdiv(N, launch["BLOCK_N"])
        squares = products.new_empty((tiles, 2, D))
        barlow_twins_backward_products_kernel[(tiles, triton.cdiv(D, launch["BLOCK_D"]), 2)](
            z1, z2, statistics, products, halves[0], halves[1], squares, N, D, *strides,
            GRAM=N < D, PRECISION=_precision(z1), **launch,
        )  # fmt: skip
        launch, terms = LAUNCH["barlow_twins_backward_terms"], products.new_empty((3, D))
        barlow_twins_backward_terms_kernel[(triton.cdiv(D, launch["BLOCK"]),)](
            grad, statistics, squares, terms, N, D, tiles, LAMBD=lambd, **launch
        )
        launch = LAUNCH["barlow_twins_backward"]
        barlow_twins_backward_kernel[(triton.cdiv(N, launch["BLOCK_N"]), triton.cdiv(D, launch["BLOCK_D"]))](
            grad, z1, z2, statistics, halves[0], halves[1], terms, grad_z1, grad_z2, N, D, *strides,
            LAMBD=lambd, **launch,
        )  # fmt: skip
    return grad_z1, grad_z2
