"""The kernels of graph_conv. A tile is [joint, frame, channel]; its joints are padded to a power of two.

``reshape`` reads a product's rows anew, [targets, frames * channels] as [targets * frames, channels], so that
aggregation and convolution are two dots without a permutation between them, and no K-times-wide intermediate is ever in
memory.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _places(size, BLOCK: tl.constexpr):
    """0, 1, ... and -1 behind the last."""
    place = tl.arange(0, BLOCK)
    return tl.where(place < size, place, -1)


@triton.jit
def _joints_at(kept, J, V, BLOCK: tl.constexpr):
    """The graph's joint at each place of x, -1 where there is none. ``kept``: the clip's joints, None for all."""
    if kept is None:
        return _places(V, BLOCK)
    else:
        joint = tl.load(kept + tl.arange(0, BLOCK), mask=tl.arange(0, BLOCK) < J, other=-1)
        # Nobody looks at the indices on a GPU, so those outside must not be followed either.
        return tl.where((joint >= 0) & (joint < V), joint, -1).to(tl.int32)


@triton.jit
def _places_of(kept, J, V, BLOCK_J: tl.constexpr, BLOCK: tl.constexpr):
    """The reverse: the place in x of each joint of the graph, -1 where it has none."""
    if kept is None:
        return _places(V, BLOCK)
    else:
        joint = _joints_at(kept, J, V, BLOCK_J)
        found = joint[None, :] == tl.arange(0, BLOCK)[:, None]
        return tl.max(tl.where(found, tl.arange(0, BLOCK_J)[None, :], -1), 1)


@triton.jit
def _adjacency(A, k, a_k, a_v, a_w, source, target):
    """A_k transposed: [target, source], 0 where there is no joint."""
    at = A + k * a_k + target[:, None] * a_w + source[None, :] * a_v
    return tl.load(at, mask=(target >= 0)[:, None] & (source >= 0)[None, :], other=0)


@triton.jit
def _tile(clip, place, t, c, T, C, x_c, x_t, x_v, LAST: tl.constexpr):
    """[joint, frame, channel] of a clip, 0 outside. LAST: channels are neighbours, which the compiler then knows."""
    step_c = 1 if LAST else x_c.to(tl.int64)
    at = clip + place[:, None, None].to(tl.int64) * x_v + t[None, :, None].to(tl.int64) * x_t
    inside = (place >= 0)[:, None, None] & (t < T)[None, :, None] & (c < C)[None, None, :]
    return tl.load(at + c[None, None, :] * step_c, mask=inside, other=0)


@triton.jit
def _weight(weight, k, c, d, C, D, w_k, w_c, w_d):
    """[channel in, channel out] of partition k."""
    at = weight + k * w_k + c[:, None] * w_c + d[None, :] * w_d
    return tl.load(at, mask=(c < C)[:, None] & (d < D)[None, :], other=0)


@triton.jit
def graph_conv_dense_kernel(
    values, edges, A, E, K, V, W, step, e_row, e_step, BLOCK: tl.constexpr, BLOCK_E: tl.constexpr
):
    """(K, V, W) from the edge list: every program looks for its cells in the whole list, so nothing is added twice."""
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), A.dtype.element_ty)
    for first in range(0, E, BLOCK_E):
        e = first + tl.arange(0, BLOCK_E)
        k = tl.load(edges + e * e_step, mask=e < E, other=-1)
        v = tl.load(edges + e_row + e * e_step, mask=e < E, other=-1)
        w = tl.load(edges + 2 * e_row + e * e_step, mask=e < E, other=-1)
        value = tl.load(values + e * step, mask=e < E, other=0).to(A.dtype.element_ty)
        known = (k >= 0) & (v >= 0) & (v < V) & (w >= 0) & (w < W)  # an edge outside the graph feeds nothing
        its = tl.where(known, (k * V + v) * W + w, -1)
        total += tl.sum(tl.where(its[None, :] == cell[:, None], value[None, :], 0), 1)
    tl.store(A + cell, total, mask=cell < K * V * W)


@triton.jit(do_not_specialize=["T", "x_n", "x_c", "o_n", "o_d"])
def graph_conv_kernel(
    x, A, weight, bias, joints, scale, shift, out, partials, counts, K, C, D, T, V_in, V_out, J_in, J_out,
    x_n, x_c, x_t, x_v, a_k, a_v, a_w, w_k, w_c, w_d, b_k, b_d, joints_n, o_n, o_d, o_t, o_v,
    PRE: tl.constexpr, RELU: tl.constexpr, X_LAST: tl.constexpr, O_LAST: tl.constexpr, X_UNIT: tl.constexpr,
    O_UNIT: tl.constexpr, BLOCK_IN: tl.constexpr, BLOCK_OUT: tl.constexpr, BLOCK_T: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A program: BLOCK_T frames of a clip, BLOCK_D channels out. The gradient in x is the same with A and W turned."""
    narrow: tl.constexpr = x.dtype.element_ty
    wide: tl.constexpr = tl.float64 if narrow == tl.float64 else tl.float32
    rows: tl.constexpr = BLOCK_OUT * BLOCK_T
    tiles_t, tiles_d = tl.cdiv(T, BLOCK_T), tl.cdiv(D, BLOCK_D)
    tile = tl.program_id(0) // tiles_d  # programs of the same frames are neighbours: the second finds x in the cache
    n = (tile // tiles_t).to(tl.int64)
    t = tile % tiles_t * BLOCK_T + tl.arange(0, BLOCK_T)
    d = tl.program_id(0) % tiles_d * BLOCK_D + tl.arange(0, BLOCK_D)
    kept = None if joints is None else joints + n * joints_n
    source, target = _joints_at(kept, J_in, V_in, BLOCK_IN), _joints_at(kept, J_out, V_out, BLOCK_OUT)

    total = tl.zeros((rows, BLOCK_D), wide)
    for first_c in range(0, C, BLOCK_C):
        c = first_c + tl.arange(0, BLOCK_C)
        features = _tile(x + n * x_n * X_UNIT, _places(J_in, BLOCK_IN), t, c, T, C, x_c, x_t, x_v, X_LAST)
        features = tl.reshape(features, (BLOCK_IN, BLOCK_T * BLOCK_C))
        for k in range(K):
            near = _adjacency(A, k, a_k, a_v, a_w, source, target).to(narrow)
            gathered = tl.dot(near, features, input_precision=PRECISION, out_dtype=wide)
            gathered = tl.reshape(gathered.to(narrow), (rows, BLOCK_C))
            matrix = _weight(weight, k, c, d, C, D, w_k, w_c, w_d).to(narrow)
            total = tl.dot(gathered, matrix, total, input_precision=PRECISION, out_dtype=wide)

    total = tl.reshape(total, (BLOCK_OUT, BLOCK_T, BLOCK_D))
    if bias is not None:
        if PRE:
            for k in range(K):
                near = _adjacency(A, k, a_k, a_v, a_w, source, target).to(wide)
                offset = tl.load(bias + k * b_k + d * b_d, mask=d < D, other=0).to(wide)
                total += tl.sum(near, 1)[:, None, None] * offset[None, None, :]
        else:
            total += tl.load(bias + d * b_d, mask=d < D, other=0).to(wide)[None, None, :]

    place = tl.arange(0, BLOCK_OUT)
    inside = (place < J_out)[:, None] & (t < T)[None, :]
    if partials is not None:
        tiles = tl.num_programs(0) // tiles_d
        count = (J_out * tl.minimum(BLOCK_T, T - tile % tiles_t * BLOCK_T)).to(wide)
        flat = tl.reshape(tl.where(inside[:, :, None], total, 0), (rows, BLOCK_D))
        mean = tl.sum(flat, 0) / count
        rest = tl.where(inside[:, :, None], total - mean[None, None, :], 0)
        rest = tl.reshape(rest * rest, (rows, BLOCK_D))
        to = partials + tile.to(tl.int64) * D + d
        tl.store(to, mean, mask=d < D)
        tl.store(to + tiles.to(tl.int64) * D, tl.sum(rest, 0), mask=d < D)
        tl.store(counts + tile, count)
    if scale is not None:
        total *= tl.load(scale + d, mask=d < D, other=0).to(wide)[None, None, :]
    if shift is not None:
        total += tl.load(shift + d, mask=d < D, other=0).to(wide)[None, None, :]
    if RELU:
        total = tl.where(total < 0, 0, total)  # NaN stays
    step_d = 1 if O_LAST else o_d.to(tl.int64)
    to = out + n * o_n * O_UNIT + place[:, None, None].to(tl.int64) * o_v + t[None, :, None].to(tl.int64) * o_t
    tl.store(to + d[None, None, :] * step_d, total, mask=inside[:, :, None] & (d < D)[None, None, :])


@triton.jit(do_not_specialize=["T", "tiles", "each", "x_n", "x_c", "g_n", "g_d"])
def graph_conv_weight_kernel(
    grad, x, A, joints, partials, bias_partials, K, C, D, T, V, W, J_in, J_out, tiles, each,
    x_n, x_c, x_t, x_v, g_n, g_d, g_t, g_v, a_k, a_v, a_w, joints_n, p_k, p_d,
    PRE: tl.constexpr, OWN: tl.constexpr, X_LAST: tl.constexpr, G_LAST: tl.constexpr, X_UNIT: tl.constexpr,
    G_UNIT: tl.constexpr, BLOCK_IN: tl.constexpr, BLOCK_OUT: tl.constexpr, BLOCK_T: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A program: BLOCK_D x BLOCK_C of one partition's weight, over ``each`` tiles of frames, and their bias."""
    narrow: tl.constexpr = x.dtype.element_ty
    wide: tl.constexpr = tl.float64 if narrow == tl.float64 else tl.float32
    rows: tl.constexpr = BLOCK_OUT * BLOCK_T
    tiles_t, tiles_d, tiles_c = tl.cdiv(T, BLOCK_T), tl.cdiv(D, BLOCK_D), tl.maximum(tl.cdiv(C, BLOCK_C), 1)
    part = tl.program_id(0) % (K * tiles_d * tiles_c)
    split = tl.program_id(0) // (K * tiles_d * tiles_c)
    k, first_c = part // (tiles_d * tiles_c), part % tiles_c * BLOCK_C
    c = first_c + tl.arange(0, BLOCK_C)
    d = part // tiles_c % tiles_d * BLOCK_D + tl.arange(0, BLOCK_D)
    if not OWN:
        source, target = _joints_at(joints, J_in, V, BLOCK_IN), _joints_at(joints, J_out, W, BLOCK_OUT)
        near = _adjacency(A, k, a_k, a_v, a_w, source, target)

    total = tl.zeros((BLOCK_D, BLOCK_C), wide)
    total_bias = tl.zeros((BLOCK_D,), wide)
    for tile in range(split * each, tl.minimum(split * each + each, tiles)):
        n = (tile // tiles_t).to(tl.int64)
        t = tile % tiles_t * BLOCK_T + tl.arange(0, BLOCK_T)
        if OWN:
            kept = joints + n * joints_n
            source, target = _joints_at(kept, J_in, V, BLOCK_IN), _joints_at(kept, J_out, W, BLOCK_OUT)
            near = _adjacency(A, k, a_k, a_v, a_w, source, target)
        features = _tile(x + n * x_n * X_UNIT, _places(J_in, BLOCK_IN), t, c, T, C, x_c, x_t, x_v, X_LAST)
        features = tl.reshape(features, (BLOCK_IN, BLOCK_T * BLOCK_C))
        gathered = tl.dot(near.to(narrow), features, input_precision=PRECISION, out_dtype=wide)
        gathered = tl.reshape(gathered.to(narrow), (rows, BLOCK_C))
        slope = _tile(grad + n * g_n * G_UNIT, _places(J_out, BLOCK_OUT), t, d, T, D, g_d, g_t, g_v, G_LAST)
        flat = tl.reshape(slope, (rows, BLOCK_D))
        total = tl.dot(tl.trans(flat), gathered, total, input_precision=PRECISION, out_dtype=wide)
        if bias_partials is not None:
            if PRE:
                slope = slope.to(wide) * tl.sum(near.to(wide), 1)[:, None, None]
                flat = tl.reshape(slope, (rows, BLOCK_D))
            total_bias += tl.sum(flat.to(wide), 0)

    to = partials + split.to(tl.int64) * (K * C * D) + k * p_k + d[:, None] * p_d + c[None, :]
    tl.store(to, total, mask=(d < D)[:, None] & (c < C)[None, :])
    if bias_partials is not None:
        number = k * D + d if PRE else d
        size = K * D if PRE else D
        its = (d < D) & (first_c == 0) & (PRE | (k == 0))
        tl.store(bias_partials + split.to(tl.int64) * size + number, total_bias, mask=its)


@triton.jit(do_not_specialize=["T", "tiles", "each", "x_n", "x_c", "g_n", "g_d"])
def graph_conv_values_kernel(
    grad, x, weight, bias, joints, partials, K, C, D, T, V, W, J_in, J_out, tiles, each,
    x_n, x_c, x_t, x_v, g_n, g_d, g_t, g_v, w_k, w_c, w_d, b_k, b_d, joints_n,
    OWN: tl.constexpr, X_LAST: tl.constexpr, G_LAST: tl.constexpr, X_UNIT: tl.constexpr, G_UNIT: tl.constexpr,
    BLOCK_J: tl.constexpr, BLOCK_IN: tl.constexpr, BLOCK_OUT: tl.constexpr, BLOCK_T: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A program: all of A_k, over ``each`` tiles of frames. Joints that were not kept are read as zeros."""
    narrow: tl.constexpr = x.dtype.element_ty
    wide: tl.constexpr = tl.float64 if narrow == tl.float64 else tl.float32
    tiles_t = tl.cdiv(T, BLOCK_T)
    k, split = tl.program_id(0) % K, tl.program_id(0) // K
    if not OWN:
        source = _places_of(joints, J_in, V, BLOCK_J, BLOCK_IN)
        target = _places_of(joints, J_out, W, BLOCK_J, BLOCK_OUT)

    total = tl.zeros((BLOCK_IN, BLOCK_OUT), wide)
    for tile in range(split * each, tl.minimum(split * each + each, tiles)):
        n = (tile // tiles_t).to(tl.int64)
        t = tile % tiles_t * BLOCK_T + tl.arange(0, BLOCK_T)
        if OWN:
            source = _places_of(joints + n * joints_n, J_in, V, BLOCK_J, BLOCK_IN)
            target = _places_of(joints + n * joints_n, J_out, W, BLOCK_J, BLOCK_OUT)
        for first_d in range(0, D, BLOCK_D):
            d = first_d + tl.arange(0, BLOCK_D)
            hidden = tl.zeros((BLOCK_IN * BLOCK_T, BLOCK_D), wide)
            for first_c in range(0, C, BLOCK_C):
                c = first_c + tl.arange(0, BLOCK_C)
                features = _tile(x + n * x_n * X_UNIT, source, t, c, T, C, x_c, x_t, x_v, X_LAST)
                features = tl.reshape(features, (BLOCK_IN * BLOCK_T, BLOCK_C))
                matrix = _weight(weight, k, c, d, C, D, w_k, w_c, w_d).to(narrow)
                hidden = tl.dot(features, matrix, hidden, input_precision=PRECISION, out_dtype=wide)
            if bias is not None:
                hidden += tl.load(bias + k * b_k + d * b_d, mask=d < D, other=0).to(wide)[None, :]
            hidden = tl.where((source >= 0)[:, None], tl.reshape(hidden, (BLOCK_IN, BLOCK_T * BLOCK_D)), 0)
            slope = _tile(grad + n * g_n * G_UNIT, target, t, d, T, D, g_d, g_t, g_v, G_LAST)
            slope = tl.reshape(slope, (BLOCK_OUT, BLOCK_T * BLOCK_D))
            total = tl.dot(hidden.to(narrow), tl.trans(slope), total, input_precision=PRECISION, out_dtype=wide)

    v, w = tl.arange(0, BLOCK_IN)[:, None], tl.arange(0, BLOCK_OUT)[None, :]
    to = partials + ((split * K + k).to(tl.int64) * V + v) * W + w
    tl.store(to, total, mask=(v < V) & (w < W))
