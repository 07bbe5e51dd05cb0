"""Models: the ST-GCN encoder and the projector of its Barlow Twins loss."""

from .encoder import Encoder
from .projector import projector

__all__ = ["Encoder", "projector"]
