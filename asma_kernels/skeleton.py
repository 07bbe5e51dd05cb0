"""Skeletons: joints, edges and what follows from them (degrees, hops, parents, parts, flip, graph partitions).

Joints are 0-based, edges are undirected, self loops are never listed. V counts joints, E edges, K partitions.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray

from . import adjacency as adjacencies
from .joint_map import joint_map
from .layouts import LAYOUTS

__all__ = ["Skeleton"]

STRATEGIES = ("uniform", "distance", "spatial", "spatial-full")


@dataclass(frozen=True)
class Skeleton:
    """A connected graph of V joints. Make one with `Skeleton.builtin(name)` or `Skeleton.from_edges(edges)`.

    The object is immutable and hashable; every array it returns is a fresh one, and everything it computes is
    deterministic and on the CPU. The constructor itself checks nothing: `from_edges` does.

    Attributes:
        name: layout name, or what the user called it.
        names: V joint names.
        edges: E pairs of joints, as given.
        centre: the joint nearest to the body's centre of gravity; root of the tree and of the spatial partition.
        flip_joints, parent_joints, part_joints: what was given for `flip`, `parents` and `parts`, None if nothing was.

    >>> skeleton = Skeleton.builtin("ntu25")
    >>> skeleton.num_joints, skeleton.names[skeleton.centre], max(skeleton.degrees)
    (25, 'spine', 4)
    >>> skeleton.partition("spatial").shape
    torch.Size([3, 25, 25])
    """

    name: str
    names: tuple[str, ...] = field(repr=False)
    edges: tuple[tuple[int, int], ...] = field(repr=False)
    centre: int
    flip_joints: tuple[int, ...] | None = field(default=None, repr=False)
    parent_joints: tuple[int, ...] | None = field(default=None, repr=False)
    part_joints: tuple[tuple[str, tuple[int, ...]], ...] | None = field(default=None, repr=False)

    @classmethod
    def from_edges(
        cls,
        edges: Iterable[Iterable[SupportsIndex]],
        names: Sequence[str] | None = None,
        centre: SupportsIndex = 0,
        flip: Iterable[SupportsIndex] | None = None,
        name: str = "custom",
        parents: Iterable[SupportsIndex] | None = None,
    ) -> Skeleton:
        """A skeleton from a list of edges, each edge once and in either direction.

        Args:
            edges: E pairs of joints 0..V-1. They must connect all joints; cycles are allowed.
            names: V distinct joint names. Without them V is the highest joint + 1, and names are joint_0, joint_1, ...
            centre: the joint nearest to the body's centre of gravity.
            flip: V joints, `flip[v]` is the joint that v becomes in a mirror; without it `.flip` raises.
            name: what error messages and tables call this skeleton.
            parents: V joints, the parent of each, the centre's is itself; needed for `.parents` if there are cycles.

        Raises:
            ValueError: an unknown or negative joint, a self loop, an edge given twice, a joint out of reach, a list of
                the wrong length, a flip that is not its own inverse, parents that do not lead to the centre.

        >>> skeleton = Skeleton.from_edges([(0, 1), (1, 2), (1, 3)], names=["hip", "neck", "left", "right"], centre=1)
        >>> skeleton.degrees, skeleton.parents
        ((1, 3, 1, 1), (1, 1, 1, 1))
        """
        pairs = _check_edges(edges)
        joint_names = _check_names(names, pairs)
        num_joints = len(joint_names)
        root = _check_known(_integer(centre, "Skeleton.from_edges: centre"), num_joints, "centre")
        skeleton = cls(name, joint_names, pairs, root)
        unreachable = np.flatnonzero(skeleton.hops[root] < 0).tolist()
        if unreachable:
            raise ValueError(
                f"Skeleton.from_edges: joint {unreachable[0]} ({joint_names[unreachable[0]]!r}) cannot be reached from"
                f" the centre, joint {root} ({joint_names[root]!r}), edges must connect all joints"
            )
        return replace(
            skeleton,
            flip_joints=None if flip is None else _check_flip(flip, num_joints),
            parent_joints=None if parents is None else _check_parents(parents, skeleton),
        )

    @classmethod
    def builtin(cls, name: str) -> Skeleton:
        """The built-in layout `name`, one of `Skeleton.layouts()`.

        All are trees with `flip` and `parts`, in the joint order of their source; `asma_kernels/layouts.py` has the
        tables and what each was taken from. Two differ from their source's drawing:

        * mediapipe33: MediaPipe's POSE_CONNECTIONS are in three pieces (face, mouth, body) and have cycles. This is our
          tree: mouth and shoulders hang at the nose, as in coco17, and the edges mouth to mouth, shoulder to shoulder,
          hip to hip, pinky to index and heel to toe are left out.
        * hand21: five fingers at the wrist, without the cycles of MediaPipe's palm. Its flip is the identity, because a
          mirrored left hand is a right hand whose joints keep their names.

        Raises:
            ValueError: `name` is not a layout; the message lists them.

        >>> Skeleton.builtin("coco17").names[:3]
        ('nose', 'left_eye', 'right_eye')
        """
        if name not in cls.layouts():
            raise ValueError(f"Skeleton.builtin: layout {name!r} is unknown, layouts are {', '.join(LAYOUTS)}")
        layout = LAYOUTS[name]
        skeleton = cls.from_edges(layout.edges, layout.names, layout.centre, layout.flip, name)
        return replace(skeleton, part_joints=tuple(layout.parts.items()))

    @staticmethod
    def layouts() -> tuple[str, ...]:
        """Names of the built-in layouts.

        >>> "ntu25" in Skeleton.layouts()
        True
        """
        return tuple(LAYOUTS)

    @property
    def num_joints(self) -> int:
        """V, the number of joints."""
        return len(self.names)

    @property
    def degrees(self) -> tuple[int, ...]:
        """The number of neighbours of each joint; self loops are not counted (PSTL masks joints by it).

        >>> Skeleton.builtin("ntu25").degrees[:4]
        (3, 2, 2, 1)
        """
        return tuple(self.adjacency.sum(axis=0).tolist())

    @property
    def adjacency(self) -> NDArray[np.int64]:
        """(V, V) int64, symmetric: 1 where two joints share an edge, else 0; the diagonal is 0."""
        adjacency = np.zeros((self.num_joints, self.num_joints), dtype=np.int64)
        for a, b in self.edges:
            adjacency[a, b] = adjacency[b, a] = 1
        return adjacency

    @property
    def hops(self) -> NDArray[np.int64]:
        """(V, V) int64, symmetric: the number of edges on a shortest path between two joints.

        >>> int(Skeleton.builtin("ntu25").hops[3, 20])
        2
        """
        return adjacencies.hops(self.adjacency)

    @property
    def parents(self) -> tuple[int, ...]:
        """The parent of each joint, V joints; the centre is its own parent.

        A tree's parents follow from its centre; where there are cycles they are those given to `from_edges`.

        Raises:
            ValueError: the graph has cycles and no parents were given.

        >>> Skeleton.builtin("ntu25").parents[:4]
        (1, 20, 20, 2)
        """
        if self.parent_joints is not None:
            return self.parent_joints
        if len(self.edges) != self.num_joints - 1:
            raise ValueError(
                f"Skeleton.parents: {self.name!r} has cycles ({len(self.edges)} edges, {self.num_joints} joints),"
                " so it needs a list of parents: Skeleton.from_edges(..., parents=[...])"
            )
        to_centre = self.hops[self.centre]
        # In a tree exactly one neighbour is nearer to the centre.
        nearer = (self.adjacency > 0) & (to_centre[None, :] < to_centre[:, None])
        nearer[self.centre, self.centre] = True
        return tuple(nearer.argmax(axis=1).tolist())

    @property
    def bones(self) -> list[tuple[int, int]]:
        """The V - 1 bones as (joint, parent), in the order of joints; the centre has no bone of its own.

        Raises:
            ValueError: the graph has cycles and no parents were given.

        >>> Skeleton.builtin("ntu25").bones[:2]
        [(0, 1), (1, 20)]
        """
        return [(joint, parent) for joint, parent in enumerate(self.parents) if joint != self.centre]

    @property
    def flip(self) -> tuple[int, ...]:
        """The left-right permutation, V joints: in a mirror joint v becomes joint `flip[v]`.

        Raises:
            ValueError: no flip was given to `from_edges`.

        >>> Skeleton.builtin("ntu25").flip[4:6]
        (8, 9)
        """
        if self.flip_joints is None:
            raise ValueError(
                f"Skeleton.flip: {self.name!r} has none, give each joint's mirror: Skeleton.from_edges(..., flip=[...])"
            )
        return self.flip_joints

    @property
    def parts(self) -> dict[str, tuple[int, ...]]:
        """Part name -> its joints, ascending; the parts are disjoint and cover all joints.

        Body layouts have left_arm, right_arm, left_leg, right_leg and trunk (with the head), hand21 has the wrist and
        five fingers. A user's skeleton has "centre" (that joint alone) and a part for each branch that hangs at it:
        "branch_" and the name of the branch's lowest joint next to the centre.

        >>> Skeleton.builtin("ntu25").parts["left_leg"]
        (12, 13, 14, 15)
        >>> Skeleton.from_edges([(0, 1), (0, 2), (2, 3)], names=["hip", "left", "right", "toe"]).parts
        {'centre': (0,), 'branch_left': (1,), 'branch_right': (2, 3)}
        """
        if self.part_joints is not None:
            return dict(self.part_joints)
        adjacency = self.adjacency
        firsts = np.flatnonzero(adjacency[self.centre]).tolist()
        adjacency[self.centre] = adjacency[:, self.centre] = 0
        hops_around_centre = adjacencies.hops(adjacency)
        parts: dict[str, tuple[int, ...]] = {"centre": (self.centre,)}
        for first in firsts:
            branch = tuple(np.flatnonzero(hops_around_centre[first] >= 0).tolist())
            if branch not in parts.values():
                parts[f"branch_{self.names[first]}"] = branch
        return parts

    def partition(self, strategy: str = "spatial", max_hop: int = 1) -> torch.Tensor:
        """The graph as K normalised adjacency matrices: (K, V, V) float32 on the CPU.

        `A[k, v, w]` weighs source joint v for target joint w: `out[w] = sum_k sum_v x[k, v] A[k, v, w]`. Joints up to
        `max_hop` apart are connected, a joint with itself too, and a target weighs its sources equally: over k and v
        `A[k, v, w]` sums to 1. (That is A D^-1, as in ST-GCN's code; equation 9 of the paper has D^-1/2 A D^-1/2.)
        The strategy says into which of the K matrices a pair (v, w) goes:

        * "uniform", K = 1: all pairs into one.
        * "distance", K = 1 + max_hop: by the hops from v to w.
        * "spatial", K = 1 + 2 max_hop: entry by entry what ST-GCN's code computes, as PSTL and AimCLR use it. First the
          pairs of a joint with itself, then for each hop count the inward pairs (v further from the centre than w, or
          equally far), then the outward pairs (v nearer). That code counts hops to the centre only up to max_hop and
          takes all joints beyond for equally far, so with max_hop = 1 the outward matrix holds only the edges that
          leave the centre and its neighbours, and the inward matrix holds all others, both ways.
        * "spatial-full": the same with the true hops to the centre, as the paper's equation 8 has it. On a tree with
          max_hop = 1 the matrices are self, child to parent, parent to child.

        The paper numbers nearer neighbours before further ones; its code and both strategies here do the opposite.

        Source: Yan et al., Spatial Temporal Graph Convolutional Networks, AAAI 2018, section 3.3 and equations 7 to 10.

        Raises:
            ValueError: an unknown strategy, or max_hop is not a positive integer.

        >>> A = Skeleton.builtin("ntu25").partition("spatial")
        >>> A.shape, int((A != 0).sum())
        (torch.Size([3, 25, 25]), 73)
        """
        if strategy not in STRATEGIES:
            raise ValueError(
                f"Skeleton.partition: strategy {strategy!r} is unknown, strategies are {', '.join(STRATEGIES)}"
            )
        max_hop = _integer(max_hop, "Skeleton.partition: max_hop")
        if max_hop < 1:
            raise ValueError(f"Skeleton.partition: max_hop must be at least 1, got {max_hop}")
        return adjacencies.partitions(self, strategy, max_hop)

    def map_to(self, other: Skeleton, missing: str = "error") -> torch.Tensor:
        """The linear map to another skeleton's joints: (W, V) float32 on the CPU, each row the weights of a mean.

        `matrix.to(x) @ x` maps clips x (N, C, T, V, M); for a map without means `asma_kernels.joint_map.picks(matrix)`
        is `joints` of skeleton_view. A joint corresponds by its name's meaning, or is the mean of the joints that
        define it: pelvis and neck that of hips and shoulders, the torso that of both, the head that of the ears.
        `asma_kernels/joint_map.py` has the tables.

        `missing` says what happens to joints without a counterpart: "error", because a made-up joint is a bug that
        trains; "zero", rows of zeros, as data sets write a joint that was not seen (MS-CLR pads so); "nearest", the
        joint next to it in the body (NTU's head for the nose, the wrist for the hand). Joints keep their numbers, so
        that the other skeleton's graph, flip and weights fit.

        Raises:
            ValueError: no joint corresponds, joints without a counterpart and "error", or an unknown `missing`.

        >>> ntu, coco = Skeleton.builtin("ntu25"), Skeleton.builtin("coco17")
        >>> coco.map_to(ntu, missing="zero")[0].nonzero().flatten().tolist()  # the base of the spine: both hips
        [11, 12]
        """
        return joint_map(self, other, missing)


def _integer(value: SupportsIndex, what: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{what} must be an integer, got {value!r}") from None


def _integers(values: Iterable[SupportsIndex], what: str) -> tuple[int, ...]:
    if not isinstance(values, Iterable):
        raise ValueError(f"{what} must be a list of joints, got {values!r}")
    return tuple(_integer(value, f"{what}: a joint") for value in values)


def _check_edges(edges: Iterable[Iterable[SupportsIndex]]) -> tuple[tuple[int, int], ...]:
    if not isinstance(edges, Iterable):
        raise ValueError(f"Skeleton.from_edges: edges must be a list of pairs of joints, got {edges!r}")
    pairs: list[tuple[int, int]] = []
    for edge in edges:
        joints = _integers(edge, "Skeleton.from_edges: an edge")
        if len(joints) != 2:
            raise ValueError(f"Skeleton.from_edges: an edge must be a pair of joints, got {joints}")
        a, b = joints
        if min(a, b) < 0:
            raise ValueError(f"Skeleton.from_edges: joint {min(a, b)} is negative, joints start at 0")
        if a == b:
            raise ValueError(f"Skeleton.from_edges: edge ({a}, {b}) is a self loop, self loops must not be listed")
        if (a, b) in pairs or (b, a) in pairs:
            raise ValueError(f"Skeleton.from_edges: edge ({a}, {b}) is given twice, each edge must be listed once")
        pairs.append((a, b))
    return tuple(pairs)


def _check_names(names: Sequence[str] | None, edges: tuple[tuple[int, int], ...]) -> tuple[str, ...]:
    """Names of all joints, given or made, so that their number is V."""
    used = {joint for edge in edges for joint in edge}
    if names is None:
        if not used:
            raise ValueError("Skeleton.from_edges: edges is empty and names is not given, so there is no joint")
        unused = next((joint for joint in range(max(used)) if joint not in used), None)
        if unused is not None:
            raise ValueError(f"Skeleton.from_edges: joint {unused} has no edge, edges must connect all joints")
        return tuple(f"joint_{joint}" for joint in range(len(used)))
    listed = () if isinstance(names, str) or not isinstance(names, Iterable) else tuple(names)
    if not listed or not all(isinstance(name, str) for name in listed):
        raise ValueError(f"Skeleton.from_edges: names must be a list of strings, one per joint, got {names!r}")
    highest = _check_known(max(used, default=0), len(listed), "joint")
    _check_length(listed, highest + 1, "names")
    repeated = next((name for index, name in enumerate(listed) if name in listed[:index]), None)
    if repeated is not None:
        raise ValueError(f"Skeleton.from_edges: names must differ, {repeated!r} is given twice")
    return listed


def _check_length(listed: Sequence[object], num_joints: int, what: str) -> None:
    if len(listed) != num_joints:
        raise ValueError(f"Skeleton.from_edges: {what} must have one entry a joint, {num_joints}, it has {len(listed)}")


def _check_known(joint: int, num_joints: int, what: str) -> int:
    if not 0 <= joint < num_joints:
        raise ValueError(f"Skeleton.from_edges: {what} {joint} is unknown, joints are 0..{num_joints - 1}")
    return joint


def _check_joint_list(joints: Iterable[SupportsIndex], num_joints: int, what: str) -> tuple[int, ...]:
    listed = _integers(joints, f"Skeleton.from_edges: {what}")
    _check_length(listed, num_joints, what)
    return tuple(_check_known(joint, num_joints, f"{what}: joint") for joint in listed)


def _check_flip(flip: Iterable[SupportsIndex], num_joints: int) -> tuple[int, ...]:
    listed = _check_joint_list(flip, num_joints, "flip")
    for joint, mirrored in enumerate(listed):
        if listed[mirrored] != joint:
            raise ValueError(
                f"Skeleton.from_edges: flip must be its own inverse, it takes joint {joint} to {mirrored}"
                f" and {mirrored} to {listed[mirrored]}"
            )
    return listed


def _check_parents(parents: Iterable[SupportsIndex], skeleton: Skeleton) -> tuple[int, ...]:
    listed = _check_joint_list(parents, skeleton.num_joints, "parents")
    centre, adjacency = skeleton.centre, skeleton.adjacency
    if listed[centre] != centre:
        raise ValueError(f"Skeleton.from_edges: the centre, {centre}, must be its own parent, not {listed[centre]}")
    for joint, parent in enumerate(listed):
        if joint != centre and not adjacency[joint, parent]:
            raise ValueError(f"Skeleton.from_edges: the parent of joint {joint} is {parent}, but they share no edge")
        ancestor = joint
        for _ in listed:
            ancestor = listed[ancestor]
        if ancestor != centre:
            raise ValueError(f"Skeleton.from_edges: the parents of joint {joint} must lead to the centre, {centre}")
    return listed
