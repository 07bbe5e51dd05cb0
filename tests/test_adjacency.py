"""Hops and the adjacencies made of them, against searches and products written out."""

import numpy as np
import pytest
import torch

from asma_kernels import Skeleton, SparseGraph, graph_conv
from asma_kernels.adjacency import dilated, hops, multi_scale, windowed

SKELETONS = ("florence15", "coco17", "openpose18", "ucla20", "ntu25")


def search(adjacency):
    """Hops from each joint by a queue."""
    V = len(adjacency)
    found = np.full((V, V), -1)
    for start in range(V):
        found[start, start] = 0
        queue = [start]
        for joint in queue:
            for other in range(V):
                if adjacency[joint][other] and found[start, other] < 0:
                    found[start, other] = found[start, joint] + 1
                    queue.append(other)
    return found


def symmetric(A):
    degree = A.sum(1)
    return np.diag(degree**-0.5) @ A @ np.diag(degree**-0.5)


@pytest.mark.parametrize("name", SKELETONS)
def test_hops(name):
    skeleton = Skeleton.builtin(name)
    assert np.array_equal(hops(skeleton), search(skeleton.adjacency))
    assert np.array_equal(hops(windowed(skeleton, 2)), search(windowed(skeleton, 2)))


def test_hops_along_directions_and_apart():
    assert hops([[0, 1, 0], [0, 0, 1], [0, 0, 0]]).tolist() == [[0, 1, 2], [-1, 0, 1], [-1, -1, 0]]
    assert hops(np.zeros((0, 0))).shape == (0, 0)


@pytest.mark.parametrize("name", SKELETONS)
def test_multi_scale(name):
    skeleton = Skeleton.builtin(name)
    V = skeleton.num_joints
    distance = search(skeleton.adjacency)
    for A in (multi_scale(skeleton, 5), multi_scale(skeleton.adjacency, 5)):
        assert A.shape == (5, V, V) and A.dtype == torch.float32
        for k in range(5):
            expected = symmetric(((distance == k) | np.eye(V, dtype=bool)).astype(float))
            torch.testing.assert_close(A[k].double(), torch.tensor(expected), rtol=1e-6, atol=1e-6)
    columns = multi_scale(skeleton, 5, normalise="columns")
    torch.testing.assert_close(columns.sum(1), torch.ones(5, V))
    assert torch.equal(columns != 0, A != 0)
    powers = multi_scale(skeleton, 4, disentangled=False)
    step = symmetric(skeleton.adjacency + np.eye(V))
    for k in range(4):
        expected = torch.tensor(np.linalg.matrix_power(step, k))
        torch.testing.assert_close(powers[k].double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", SKELETONS)
@pytest.mark.parametrize("frames", [1, 3])
def test_windowed(name, frames):
    skeleton = Skeleton.builtin(name)
    V = skeleton.num_joints
    graph = windowed(skeleton, frames)
    for t in range(frames):
        for s in range(frames):
            assert np.array_equal(graph[t * V : t * V + V, s * V : s * V + V], skeleton.adjacency + np.eye(V))
    scales = multi_scale(graph, 3)
    assert scales.shape == (3, frames * V, frames * V) and torch.equal(scales, scales.mT)


@pytest.mark.parametrize("name", SKELETONS)
def test_dilated(name):
    skeleton = Skeleton.builtin(name)
    V, centre = skeleton.num_joints, skeleton.centre
    distance = search(skeleton.adjacency)
    A = dilated(skeleton, [1, 3])
    assert A.shape == (6, V, V) and A.dtype == torch.float32
    for i, window in enumerate((1, 3)):
        for k, wanted in enumerate(("itself", "inward", "outward")):
            expected = torch.zeros(V, V)
            for v in range(V):
                for w in range(V):
                    outward = distance[centre, v] < distance[centre, w]
                    far = distance[v, w] == window
                    kind = {"itself": v == w, "inward": far and not outward, "outward": far and outward}
                    expected[v, w] = float(kind[wanted])
            expected = expected / expected.sum(0).clamp(min=1)
            torch.testing.assert_close(A[3 * i + k], expected)
    assert torch.equal(A[:3] != 0, skeleton.partition("spatial-full") != 0)
    total = A.sum(1)
    assert (((total - 1).abs() < 1e-6) | (total == 0)).all()


def test_they_go_into_graph_conv():
    skeleton = Skeleton.builtin("ntu25")
    x = torch.randn(2, 3, 4, 25)
    for A in (multi_scale(skeleton, 5), dilated(skeleton, [2])):
        weight = torch.randn(len(A) * 8, 3)
        expected = torch.einsum("nkdtv,kvw->ndtw", torch.einsum("nctv,kdc->nkdtv", x, weight.view(-1, 8, 3)), A)
        for graph in (A, SparseGraph.from_dense(A)):
            torch.testing.assert_close(graph_conv(x, graph, weight), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hops(np.ones((2, 3))), r"hops: graph must be a skeleton or \(V, V\), got shape \(2, 3\)"),
        (lambda: multi_scale(Skeleton.builtin("ntu25"), 0), "multi_scale: num_scales must be at least 1, got 0"),
        (
            lambda: multi_scale(np.eye(3), 2, normalise="rows"),
            "normalise must be one of symmetric, columns, got 'rows'",
        ),
        (lambda: multi_scale([[0, 1], [0, 0]], 2), "multi_scale: graph must have no directions"),
        (lambda: windowed(Skeleton.builtin("ntu25"), 0), "windowed: window_size must be at least 1, got 0"),
        (lambda: windowed([1, 2], 2), r"windowed: graph must be a skeleton or \(V, V\), got shape \(2,\)"),
        (lambda: dilated(Skeleton.builtin("ntu25"), []), r"dilated: windows must be hops of at least 1, got \[\]"),
        (
            lambda: dilated(Skeleton.builtin("ntu25"), [1, 0]),
            r"dilated: windows must be hops of at least 1, got \[1, 0\]",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
