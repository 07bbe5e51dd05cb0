"""Skeletons: built-in layouts, what follows from a graph, the partitions, and every refusal."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asma_kernels.skeleton import Skeleton

LAYOUT_SIZES = {
    "ntu25": 25,
    "ntu25-pyskl": 25,
    "ucla20": 20,
    "utd20": 20,
    "openpose18": 18,
    "openpose25": 25,
    "coco17": 17,
    "florence15": 15,
    "mediapipe33": 33,
    "hand21": 21,
}
BODY_PARTS = {"left_arm", "right_arm", "left_leg", "right_leg", "trunk"}
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
# A hip with two legs whose feet are tied together: one cycle 1-2-4-3, and joint 5 beyond it.
CYCLE = [(0, 1), (1, 2), (1, 3), (2, 4), (3, 4), (4, 5)]

all_layouts = pytest.mark.parametrize("layout", LAYOUT_SIZES)


@st.composite
def skeletons(draw: st.DrawFn, cycles: bool = True) -> Skeleton:
    """A random tree over shuffled joints, with random further edges where cycles are asked for."""
    num_joints = draw(st.integers(2, 12))
    order = draw(st.permutations(range(num_joints)))
    edges = [(order[joint], order[draw(st.integers(0, joint - 1))]) for joint in range(1, num_joints)]
    if cycles:
        known = {frozenset(edge) for edge in edges}
        others = [(a, b) for a in range(num_joints) for b in range(a) if frozenset((a, b)) not in known]
        if others:
            edges += draw(st.lists(st.sampled_from(others), unique=True, max_size=6))
    return Skeleton.from_edges(edges, centre=draw(st.integers(0, num_joints - 1)))


def floyd_warshall(skeleton: Skeleton) -> list[list[float]]:
    joints = range(skeleton.num_joints)
    distance = [[0.0 if a == b else float("inf") for b in joints] for a in joints]
    for a, b in skeleton.edges:
        distance[a][b] = distance[b][a] = 1.0
    for middle in joints:
        for a in joints:
            for b in joints:
                distance[a][b] = min(distance[a][b], distance[a][middle] + distance[middle][b])
    return distance


def brute_force_partition(skeleton: Skeleton, strategy: str, max_hop: int) -> np.ndarray:
    """Pair by pair from the paper's section 3.3, with the limited sight of ST-GCN's code for "spatial"."""
    joints = range(skeleton.num_joints)
    hops = floyd_warshall(skeleton)
    to_centre = [hops[joint][skeleton.centre] for joint in joints]
    if strategy == "spatial":
        to_centre = [distance if distance <= max_hop else float("inf") for distance in to_centre]
    num_groups = {"uniform": 1, "distance": 1 + max_hop}.get(strategy, 1 + 2 * max_hop)
    partition = np.zeros((num_groups, skeleton.num_joints, skeleton.num_joints))
    for target in joints:
        sources = [joint for joint in joints if hops[joint][target] <= max_hop]
        for source in sources:
            hop = int(hops[source][target])
            group = {"uniform": 0, "distance": hop}.get(strategy, 0 if hop == 0 else 2 * hop - 1)
            if strategy.startswith("spatial") and to_centre[source] < to_centre[target]:
                group += 1
            partition[group, source, target] = 1 / len(sources)
    return partition


# Built-in layouts


def test_layouts_lists_the_names() -> None:
    assert Skeleton.layouts() == tuple(LAYOUT_SIZES)


@all_layouts
def test_layout_is_a_named_tree(layout: str) -> None:
    skeleton = Skeleton.builtin(layout)
    assert skeleton.name == layout
    assert skeleton.num_joints == len(set(skeleton.names)) == LAYOUT_SIZES[layout]
    assert len(skeleton.edges) == len(skeleton.bones) == skeleton.num_joints - 1
    assert sum(skeleton.degrees) == 2 * len(skeleton.edges)


@all_layouts
def test_layout_flip_mirrors_joints_edges_bones_and_parts(layout: str) -> None:
    skeleton = Skeleton.builtin(layout)
    flip = np.array(skeleton.flip)
    np.testing.assert_array_equal(flip[flip], np.arange(skeleton.num_joints))
    np.testing.assert_array_equal(skeleton.adjacency[np.ix_(flip, flip)], skeleton.adjacency)
    assert flip[skeleton.centre] == skeleton.centre
    assert [skeleton.parents[joint] for joint in flip] == [flip[parent] for parent in skeleton.parents]
    mirrored = {tuple(sorted(flip[list(joints)])) for joints in skeleton.parts.values()}
    assert mirrored == set(skeleton.parts.values())


@all_layouts
def test_layout_parts_are_connected_and_cover_all_joints(layout: str) -> None:
    skeleton = Skeleton.builtin(layout)
    parts = skeleton.parts
    assert sorted(joint for joints in parts.values() for joint in joints) == list(range(skeleton.num_joints))
    assert layout == "hand21" or set(parts) == BODY_PARTS
    for joints in parts.values():
        assert joints == tuple(sorted(joints))
        inside = skeleton.adjacency[np.ix_(joints, joints)]
        assert inside.sum() == 2 * (len(joints) - 1)


@all_layouts
def test_layout_names_agree_with_its_parts(layout: str) -> None:
    skeleton = Skeleton.builtin(layout)
    for part, joints in skeleton.parts.items():
        side = part.split("_")[0]
        if side in ("left", "right"):
            assert all(side in skeleton.names[joint].split("_") for joint in joints)


def test_ntu25_facts() -> None:
    skeleton = Skeleton.builtin("ntu25")
    assert skeleton.centre == 20
    assert skeleton.degrees == (3, 2, 2, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 1, 4, 1, 2, 1, 2)
    assert skeleton.flip == (
        *(0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7),
        *(16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22),
    )
    assert {(21, 22), (22, 7), (23, 24), (24, 11)} <= set(skeleton.edges)
    assert skeleton.parents[20] == 20 and skeleton.parents[0] == 1 and skeleton.parents[21] == 22


def test_ntu25_pyskl_differs_in_the_fingers_only() -> None:
    ntu, pyskl = Skeleton.builtin("ntu25"), Skeleton.builtin("ntu25-pyskl")
    assert set(pyskl.edges) - set(ntu.edges) == {(21, 7), (23, 11)}
    assert set(ntu.edges) - set(pyskl.edges) == {(21, 22), (23, 24)}
    assert [pyskl.degrees[joint] for joint in (7, 11, 21, 22, 23, 24)] == [3, 3, 1, 1, 1, 1]
    assert (pyskl.names, pyskl.centre, pyskl.flip, pyskl.parts) == (ntu.names, ntu.centre, ntu.flip, ntu.parts)


@pytest.mark.parametrize(
    ("layout", "nonzeros"), [("ntu25", 73), ("ntu25-pyskl", 73), ("ucla20", 58), ("openpose18", 52), ("coco17", 49)]
)
@pytest.mark.parametrize("strategy", ["uniform", "distance", "spatial", "spatial-full"])
def test_partition_nonzeros(layout: str, nonzeros: int, strategy: str) -> None:
    assert int((Skeleton.builtin(layout).partition(strategy) != 0).sum()) == nonzeros


@pytest.mark.parametrize(("layout", "stem"), [("utd20", "utd_mhad"), ("ucla20", "nw_ucla")])
def test_layout_agrees_with_the_data_set(layout: str, stem: str) -> None:
    path = SHARED_DATA / f"{stem}.json"
    if not path.exists():
        pytest.skip(f"{path} is absent: the data set's owner does not allow it to be shipped with the project")
    described = json.loads(path.read_text())
    skeleton = Skeleton.builtin(layout)
    assert list(skeleton.names) == described["joints"]
    assert [list(edge) for edge in skeleton.edges] == described["edges"]
    assert skeleton.centre == described["centre"]


def test_openpose25_agrees_with_openpose18_where_both_have_the_joint() -> None:
    body, coco = Skeleton.builtin("openpose25"), Skeleton.builtin("openpose18")
    assert set(coco.names) < set(body.names)
    assert body.names[:8] == coco.names[:8]
    assert body.names[15:19] == coco.names[14:]
    # The arms and the face hang as they do there; the hips hang at their middle, not at the shoulders.
    named = [
        {frozenset(skeleton.names[joint] for joint in edge) for edge in skeleton.edges} for skeleton in (body, coco)
    ]
    assert named[1] - named[0] == {frozenset(("left_hip", "left_shoulder")), frozenset(("right_hip", "right_shoulder"))}
    middle = {joint for edge in named[0] if "mid_hip" in edge for joint in edge - {"mid_hip"}}
    assert middle == {"neck", "left_hip", "right_hip"}


def test_mediapipe33_adds_only_the_edges_that_join_the_pieces() -> None:
    pose_connections = {
        *((0, 1), (1, 2), (2, 3), (3, 7), (0, 4), (4, 5), (5, 6), (6, 8), (9, 10), (11, 12), (11, 13), (13, 15)),
        *((15, 17), (15, 19), (15, 21), (17, 19), (12, 14), (14, 16), (16, 18), (16, 20), (16, 22), (18, 20)),
        *((11, 23), (12, 24), (23, 24), (23, 25), (24, 26), (25, 27), (26, 28), (27, 29), (28, 30)),
        *((29, 31), (30, 32), (27, 31), (28, 32)),
    }
    edges = {(min(edge), max(edge)) for edge in Skeleton.builtin("mediapipe33").edges}
    assert edges - pose_connections == {(0, 9), (0, 10), (0, 11), (0, 12)}
    assert pose_connections - edges == {(9, 10), (11, 12), (23, 24), (17, 19), (18, 20), (29, 31), (30, 32)}


def test_skeletons_compare_hash_and_do_not_change() -> None:
    skeleton = Skeleton.builtin("ntu25")
    assert skeleton == Skeleton.builtin("ntu25") and hash(skeleton) == hash(Skeleton.builtin("ntu25"))
    assert skeleton != Skeleton.builtin("ntu25-pyskl")
    with pytest.raises(dataclasses.FrozenInstanceError):
        skeleton.centre = 0  # type: ignore[misc]
    skeleton.hops[0] = skeleton.adjacency[0] = 9
    skeleton.partition()[0] = 9
    skeleton.parts.clear()
    assert skeleton.hops.max() < 20 and skeleton.adjacency.max() == 1
    assert skeleton.partition().max() == 0.5 and skeleton.parts


# What follows from a graph


@settings(deadline=None, max_examples=50)
@given(skeletons())
def test_hops_adjacency_and_degrees(skeleton: Skeleton) -> None:
    np.testing.assert_array_equal(skeleton.hops, np.array(floyd_warshall(skeleton)))
    np.testing.assert_array_equal(skeleton.adjacency, skeleton.hops == 1)
    assert skeleton.hops.dtype == skeleton.adjacency.dtype == np.int64
    flat = [joint for edge in skeleton.edges for joint in edge]
    assert skeleton.degrees == tuple(flat.count(joint) for joint in range(skeleton.num_joints))


@settings(deadline=None, max_examples=50)
@given(skeletons(cycles=False))
def test_tree_parents_are_the_next_joint_towards_the_centre(skeleton: Skeleton) -> None:
    to_centre = skeleton.hops[skeleton.centre]
    edges = {frozenset(edge) for edge in skeleton.edges}
    assert {frozenset(bone) for bone in skeleton.bones} == edges
    assert all(to_centre[parent] == to_centre[joint] - 1 for joint, parent in skeleton.bones)
    assert skeleton.parents[skeleton.centre] == skeleton.centre
    given_parents = Skeleton.from_edges(skeleton.edges, centre=skeleton.centre, parents=skeleton.parents)
    assert given_parents.bones == skeleton.bones


@settings(deadline=None, max_examples=50)
@given(skeletons())
def test_generic_parts_are_the_pieces_left_without_the_centre(skeleton: Skeleton) -> None:
    parts = skeleton.parts
    assert parts.pop("centre") == (skeleton.centre,)
    assert sorted(joint for part in parts.values() for joint in part) == [
        joint for joint in range(skeleton.num_joints) if joint != skeleton.centre
    ]
    part_of = {joint: name for name, part in parts.items() for joint in part}
    assert all(part_of[a] == part_of[b] for a, b in skeleton.edges if skeleton.centre not in (a, b))
    for name, part in parts.items():
        first = skeleton.names.index(name.removeprefix("branch_"))
        assert first == min(joint for joint in part if skeleton.hops[joint, skeleton.centre] == 1)
        # Connected even if the paths through the centre are closed.
        members = {first}
        while grown := {b for a in members for b in part if skeleton.adjacency[a, b]} - members:
            members |= grown
        assert members == set(part)


def test_cyclic_graph_takes_its_parents_from_the_user() -> None:
    skeleton = Skeleton.from_edges(CYCLE, parents=[0, 0, 1, 1, 3, 4])
    assert skeleton.parents == (0, 0, 1, 1, 3, 4)
    assert skeleton.bones == [(1, 0), (2, 1), (3, 1), (4, 3), (5, 4)]
    assert skeleton.parts == {"centre": (0,), "branch_joint_1": (1, 2, 3, 4, 5)}


def test_one_joint_and_integers_of_other_libraries() -> None:
    point = Skeleton.from_edges([], names=["point"])
    assert (point.num_joints, point.parents, point.bones, point.degrees) == (1, (0,), [], (0,))
    assert point.partition().tolist() == [[[1.0]], [[0.0]], [[0.0]]]
    plain = Skeleton.from_edges([(0, 1), (1, 2)], centre=1, flip=[2, 1, 0])
    for edges in (np.array([[0, 1], [1, 2]]), torch.tensor([[0, 1], [1, 2]])):
        assert Skeleton.from_edges(edges, centre=np.int32(1), flip=np.array([2, 1, 0])) == plain


# Partitions


@settings(deadline=None, max_examples=80)
@given(skeletons(), st.sampled_from(["uniform", "distance", "spatial", "spatial-full"]), st.integers(1, 3))
def test_partition_equals_brute_force(skeleton: Skeleton, strategy: str, max_hop: int) -> None:
    partition = skeleton.partition(strategy, max_hop)
    assert partition.dtype == torch.float32 and partition.is_contiguous()
    np.testing.assert_array_equal(partition, brute_force_partition(skeleton, strategy, max_hop).astype(np.float32))
    total = partition.sum(0)
    torch.testing.assert_close(total.sum(0), torch.ones(skeleton.num_joints))
    np.testing.assert_array_equal(total != 0, skeleton.hops <= max_hop)
    assert int((partition != 0).sum(0).max()) == 1


@all_layouts
@pytest.mark.parametrize("max_hop", [1, 2])
@pytest.mark.parametrize("strategy", ["uniform", "distance", "spatial", "spatial-full"])
def test_layout_partition_equals_brute_force(layout: str, strategy: str, max_hop: int) -> None:
    skeleton = Skeleton.builtin(layout)
    expected = brute_force_partition(skeleton, strategy, max_hop).astype(np.float32)
    np.testing.assert_array_equal(skeleton.partition(strategy, max_hop), expected)


def test_partition_by_hand() -> None:
    """A path 0 - 1 - 2 - 3 around joint 0; sources are rows, targets are columns."""
    path = Skeleton.from_edges([(0, 1), (1, 2), (2, 3)])
    half, third = np.float32(1 / 2), np.float32(1 / 3)
    own, inward, outward = path.partition("spatial-full").numpy()
    np.testing.assert_array_equal(own, np.diag([half, third, third, half]))
    np.testing.assert_array_equal(inward, [[0, 0, 0, 0], [half, 0, 0, 0], [0, third, 0, 0], [0, 0, third, 0]])
    np.testing.assert_array_equal(outward, [[0, third, 0, 0], [0, 0, third, 0], [0, 0, 0, half], [0, 0, 0, 0]])
    # ST-GCN's code sees no difference between joints 2 and 3, two and three hops away.
    own, inward, outward = path.partition("spatial").numpy()
    np.testing.assert_array_equal(inward, [[0, 0, 0, 0], [half, 0, 0, 0], [0, third, 0, half], [0, 0, third, 0]])
    np.testing.assert_array_equal(outward, [[0, third, 0, 0], [0, 0, third, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_ntu25_spatial_partition_has_the_outward_edges_of_the_centre_and_its_neighbours_only() -> None:
    skeleton = Skeleton.builtin("ntu25")
    outward = {tuple(pair) for pair in skeleton.partition("spatial")[2].nonzero().tolist()}
    assert outward == {(20, 1), (20, 2), (20, 4), (20, 8), (1, 0), (2, 3), (4, 5), (8, 9)}
    full = {tuple(pair) for pair in skeleton.partition("spatial-full")[2].nonzero().tolist()}
    assert full == {(parent, joint) for joint, parent in skeleton.bones}


# Refusals

GOOD = [(0, 1), (1, 2)]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"edges": [*GOOD, (2, 25)], "names": ["a", "b", "c"]}, "joint 25 is unknown, joints are 0..2"),
    ({"edges": [*GOOD, (2, -1)]}, "joint -1 is negative, joints start at 0"),
    ({"edges": [*GOOD, (1, 1)]}, "edge (1, 1) is a self loop, self loops must not be listed"),
    ({"edges": [*GOOD, (1, 0)]}, "edge (1, 0) is given twice, each edge must be listed once"),
    ({"edges": [(0, 1, 2)]}, "an edge must be a pair of joints, got (0, 1, 2)"),
    ({"edges": [0, 1]}, "an edge must be a list of joints, got 0"),
    ({"edges": [(0, 1.0)]}, "an edge: a joint must be an integer, got 1.0"),
    ({"edges": None}, "edges must be a list of pairs of joints, got None"),
    ({"edges": []}, "edges is empty and names is not given, so there is no joint"),
    (
        {"edges": [(0, 1), (2, 3)], "names": ["hip", "knee", "hand", "tip"]},
        "joint 2 ('hand') cannot be reached from the centre, joint 0 ('hip'), edges must connect all joints",
    ),
    ({"edges": [(0, 1), (1, 10**12)]}, "joint 2 has no edge, edges must connect all joints"),
    ({"edges": GOOD, "names": ["a", "b", "c", "d"]}, "names must have one entry a joint, 3, it has 4"),
    ({"edges": GOOD, "names": ["a", "b", "a"]}, "names must differ, 'a' is given twice"),
    ({"edges": GOOD, "names": "abc"}, "names must be a list of strings, one per joint, got 'abc'"),
    ({"edges": GOOD, "centre": 3}, "centre 3 is unknown, joints are 0..2"),
    ({"edges": GOOD, "centre": -1}, "centre -1 is unknown, joints are 0..2"),
    ({"edges": GOOD, "centre": "hip"}, "centre must be an integer, got 'hip'"),
    ({"edges": GOOD, "flip": [0, 1]}, "flip must have one entry a joint, 3, it has 2"),
    ({"edges": GOOD, "flip": [0, 1, 3]}, "flip: joint 3 is unknown, joints are 0..2"),
    ({"edges": GOOD, "flip": [1, 2, 0]}, "flip must be its own inverse, it takes joint 0 to 1 and 1 to 2"),
    ({"edges": GOOD, "parents": [0, 0]}, "parents must have one entry a joint, 3, it has 2"),
    ({"edges": GOOD, "parents": [0, -1, 1]}, "parents: joint -1 is unknown, joints are 0..2"),
    ({"edges": GOOD, "parents": [1, 0, 1]}, "the centre, 0, must be its own parent, not 1"),
    ({"edges": GOOD, "parents": [0, 0, 0]}, "the parent of joint 2 is 0, but they share no edge"),
    ({"edges": CYCLE, "parents": [0, 0, 4, 1, 2, 4]}, "the parents of joint 2 must lead to the centre, 0"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_from_edges_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        Skeleton.from_edges(**arguments)
    assert str(refusal.value) == f"Skeleton.from_edges: {message}"


NEEDS_PARENTS = (
    "Skeleton.parents: 'legs' has cycles (6 edges, 6 joints), so it needs a list of parents:"
    " Skeleton.from_edges(..., parents=[...])"
)


def test_cycles_without_parents_have_no_bones() -> None:
    legs = Skeleton.from_edges(CYCLE, name="legs")
    for ask in (lambda: legs.parents, lambda: legs.bones):
        with pytest.raises(ValueError) as refusal:
            ask()
        assert str(refusal.value) == NEEDS_PARENTS


def test_flip_unknown() -> None:
    with pytest.raises(
        ValueError, match=r"^Skeleton.flip: 'arm' has none, .*: Skeleton.from_edges\(\.\.\., flip=\[\.\.\.\]\)$"
    ):
        _ = Skeleton.from_edges(GOOD, name="arm").flip


@pytest.mark.parametrize("layout", ["ntu", ["ntu25"], None])
def test_unknown_layout_lists_the_known_ones(layout: Any) -> None:
    with pytest.raises(ValueError) as refusal:
        Skeleton.builtin(layout)
    assert str(refusal.value) == (
        f"Skeleton.builtin: layout {layout!r} is unknown, layouts are {', '.join(LAYOUT_SIZES)}"
    )


@pytest.mark.parametrize(
    ("strategy", "max_hop", "message"),
    [
        ("radial", 1, "strategy 'radial' is unknown, strategies are uniform, distance, spatial, spatial-full"),
        ("spatial", 0, "max_hop must be at least 1, got 0"),
        ("spatial", 1.5, "max_hop must be an integer, got 1.5"),
    ],
)
def test_partition_refuses(strategy: str, max_hop: Any, message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        Skeleton.from_edges(GOOD).partition(strategy, max_hop)
    assert str(refusal.value) == f"Skeleton.partition: {message}"
