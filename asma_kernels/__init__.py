"""Kernels for learning from human skeletons, behind ``torch.ops.asma``. Definitions of the ops: docs/ops.md."""

from . import rng
from ._dispatch import backend, explain
from .ops.motion_energy import motion_energy
from .ops.philox import philox
from .skeleton import Skeleton

__version__ = "0.1.0"

__all__ = [
    "Skeleton",
    "backend",
    "explain",
    "motion_energy",
    "philox",
    "rng",
]
