"""Kernels for learning from human skeletons, behind ``torch.ops.asma``. Definitions of the ops: docs/ops.md."""

from . import adjacency, draws, joint_map, nn, rng
from ._dispatch import backend, explain
from ._version import __version__
from .graph import SparseGraph
from .nn.patch import patch
from .ops.barlow_twins import barlow_twins
from .ops.frame_drop import frame_drop
from .ops.frame_mask import frame_mask
from .ops.graph_conv import graph_conv
from .ops.joint_mask import JointMask, high_degree_weights, joint_mask, low_degree_weights
from .ops.motion_energy import motion_energy
from .ops.philox import philox
from .ops.skeleton_view import skeleton_view
from .ops.stgcn_block import BlockOutput, stgcn_block, stgcn_block_folded
from .ops.token_mask import TokenMask, token_mask
from .ops.view_draw import view_draw
from .skeleton import Skeleton

__all__ = [
    "__version__",
    "BlockOutput",
    "JointMask",
    "Skeleton",
    "TokenMask",
    "SparseGraph",
    "adjacency",
    "backend",
    "barlow_twins",
    "draws",
    "explain",
    "graph_conv",
    "frame_drop",
    "frame_mask",
    "high_degree_weights",
    "joint_map",
    "joint_mask",
    "low_degree_weights",
    "motion_energy",
    "nn",
    "patch",
    "philox",
    "rng",
    "skeleton_view",
    "stgcn_block",
    "stgcn_block_folded",
    "token_mask",
    "view_draw",
]
