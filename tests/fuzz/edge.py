"""The fuzz target of the edge engine, its model files and its streams: its build and its seeds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import torch
from edge_engine import student
from fuzz.run import FLAGS, ROOT, linked

from asma.config import DataConfig
from asma.edge_file import edge_bytes
from asma.precision import PRECISIONS
from asma_kernels import Skeleton

LONGEST = 1 << 12
WORDS = ["ASMAEDGE", "\\x01\\x00\\x00\\x00", "\\x00\\x00\\x01\\x00", "\\xff\\xff\\xff\\xff", "\\x00\\x00\\x80\\x7f"]

AROUND = ("clip_text", "command")
JUDGES = ("file", "model")  # sources whose comparisons teach libFuzzer what to write


def seeds() -> dict[str, bytes]:
    """Small model files that have every kind of block, readout and preparation."""
    chain = Skeleton.from_edges([(0, 1), (1, 2)], names=["left_hip", "chest", "right_hip"], centre=1, name="chain")
    raw = DataConfig(frames=6, persons=2, face="hips", scale=True, stream="bone")
    motion = DataConfig(frames=11, stream="motion", face="none", centre="clip")
    other = DataConfig(frames=6, pipeline="pstl")
    models = {
        "student": student(chain, (4, 3), (1, 2), raw, kernel=3),
        "minimal_filtering": student(chain, (1, 1), (1, 1), motion),
        "teacher": student(chain, (2, 2), (1, 1), raw, encoders=2, segments=3, kernel=1),
        "prepared": student(chain, (2,), (3,), other, in_channels=2),
    }
    seeds = {}
    for name, model in models.items():
        shape = (4, model.first_encoder.config.in_channels, model.data.frames, 3, model.data.persons)
        clips = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        seeds |= {f"{name}_{precision}": edge_bytes(model, precision, clips) for precision in PRECISIONS}
    return seeds


def build(folder: Path, clang: str) -> Path:
    """The engine in one program, its network for one instruction set: what bounds are does not depend on it."""
    edge = ROOT / "csrc/edge"
    flags = [
        "-DASMA_EDGE_GUARDED",
        "-DASMA_GENERIC_ONLY",
        "-DASMA_ISA=generic",
        "-DASMA_NO_HALF",
        "-Wno-align-mismatch",
    ]
    parts = [Path(__file__).with_suffix(".cpp"), ROOT / "csrc/cpu/isa.cpp"]
    for source in sorted(edge.glob("*.cpp")):
        if source.stem in JUDGES:
            parts.append(source)
        elif source.stem not in AROUND:
            # In loops over numbers libFuzzer's notes of every comparison took two thirds of the time.
            parts.append(folder / f"{source.stem}.o")
            command = [clang, *FLAGS, *flags, "-fno-sanitize-coverage=trace-cmp", "-c", source, "-o", parts[-1]]
            subprocess.run(command, check=True)
    return linked(parts, folder / "edge", clang, *flags)
