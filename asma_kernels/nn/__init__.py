"""Modules for other people's models."""

from .agcn import AAGCN, AGCN, PysklAAGCN
from .barlow_twins import BarlowTwinsLoss
from .ctrgcn import CTRGC, CTRGCN, PysklCTRGC, PysklCTRGCN
from .decouple_gcn import DecoupleGCN
from .dggcn import DGGCN, ProtoGCN
from .graph_conv import GraphConv
from .hdgcn import HDGCN
from .hiclr_masks import Jointmask, Jointmask2, TemporalMask
from .hyper_gcn import HyperGCN
from .infogcn import SAGC, JointAttention
from .motion_target import extract_motion, motion_target, patchify
from .msg3d import MSG3D, MSGCN, STMSGCN, MultiWindowMSG3D, TemporalWindows
from .mstcn import DGMSTCN, MSTCN
from .pyskl_gcn import PysklGCN
from .recompute import in_parts, recomputed
from .skeleton_masks import CentralSpatialMask, NeighbourhoodMask, motion_att_temp_mask
from .stgcn import ConvTemporalGraphical, STGCNUnit
from .stgcn_block import STGCNBlock
from .streams import bone_stream, motion_stream
from .temporal import MSG3DTemporalConv, MultiScaleTemporalConv, UnitTCN
from .token_masks import MaskedTokens, frame_random_masking, motion_aware_random_masking, random_masking

__all__ = [
    "AAGCN",
    "AGCN",
    "BarlowTwinsLoss",
    "CTRGC",
    "CTRGCN",
    "CentralSpatialMask",
    "ConvTemporalGraphical",
    "DGGCN",
    "DGMSTCN",
    "DecoupleGCN",
    "GraphConv",
    "HDGCN",
    "HyperGCN",
    "JointAttention",
    "Jointmask",
    "Jointmask2",
    "MSG3D",
    "MSG3DTemporalConv",
    "MSGCN",
    "MSTCN",
    "MaskedTokens",
    "MultiScaleTemporalConv",
    "MultiWindowMSG3D",
    "NeighbourhoodMask",
    "ProtoGCN",
    "PysklAAGCN",
    "PysklCTRGC",
    "PysklCTRGCN",
    "PysklGCN",
    "SAGC",
    "STGCNBlock",
    "STGCNUnit",
    "STMSGCN",
    "TemporalMask",
    "TemporalWindows",
    "UnitTCN",
    "bone_stream",
    "extract_motion",
    "frame_random_masking",
    "in_parts",
    "motion_att_temp_mask",
    "motion_aware_random_masking",
    "motion_stream",
    "motion_target",
    "patchify",
    "random_masking",
    "recomputed",
]
