"""Models: the ST-GCN encoder and the projector of its Barlow Twins loss."""

from .encoder import Encoder
from .projector import Projector

__all__ = ["Encoder", "Projector"]
