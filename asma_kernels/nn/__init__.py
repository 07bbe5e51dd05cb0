"""Modules for other people's models."""

from .barlow_twins import BarlowTwinsLoss
from .graph_conv import GraphConv
from .stgcn_block import STGCNBlock

__all__ = ["BarlowTwinsLoss", "GraphConv", "STGCNBlock"]
