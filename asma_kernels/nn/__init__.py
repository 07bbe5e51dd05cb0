"""Modules for other people's models."""

from .barlow_twins import BarlowTwinsLoss
from .graph_conv import GraphConv

__all__ = ["BarlowTwinsLoss", "GraphConv"]
