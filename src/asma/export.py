"""Ways out of PyTorch for a teacher or a student: the edge engine's file, ONNX, and a program of torch.export."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from .classifier import Classifier
from .config import need
from .data import open_clips
from .data.mapped import MappedClips
from .edge_file import edge_bytes
from .files import write_atomically
from .folded import fold
from .onnx_file import onnx_bytes
from .plain import PlainClassifier
from .precision import Precision
from .prepare import Prepared, open_split

__all__ = ["FORMATS", "MOST_CLIPS", "Format", "PlainClassifier", "clips_to_calibrate", "export"]

MOST_CLIPS = 1024
"""By which int8 is calibrated: more change little."""

Format = Literal["edge", "onnx", "torch"]


def export(
    model: Classifier, to: Format, out: Path, precision: Precision = "float32", clips: torch.Tensor | None = None
) -> int:
    """Write a classifier in another form; a file of that name is replaced as a whole or stays as it is.

    Args:
        model: a teacher or a student of `load_classifier`; it stays as it is.
        to: edge, for the engine of docs/edge.md: raw skeletons in, classes out, at the model's T. onnx and torch:
            prepared clips (N, C, T, V, M) in, logits (N, classes) out, for any N and T; torch is a file of
            `torch.export.save` (.pt2), which needs nothing of this project when it is loaded, and more frames than
            all strides multiplied.
        out: the file.
        precision: for the engine alone, of what is multiplied: float32, bfloat16 or int8.
        clips: for int8, prepared clips (N, C, T, V, M) as the model is for, by which steps are chosen.

    Returns:
        Bytes that were written.

    Raises:
        ValueError: the form or the precision is unknown, or not of this form; int8 without clips; the model's numbers
            are not finite.
        OSError: the file cannot be written.
        MissingExtraError: for onnx: it is not installed.
    """
    need(to in FORMATS, f"export: to must be one of {', '.join(FORMATS)}", repr(to))
    need(to == "edge" or precision == "float32", f"export: precision must be float32 for {to}", repr(precision))
    content = edge_bytes(model, precision, clips) if to == "edge" else FORMATS[to](model)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(Path(out), lambda part: part.write_bytes(content))
    return len(content)


def clips_to_calibrate(model: Classifier, clips: str = "") -> torch.Tensor:
    """Prepared clips (N, C, T, V, M) by which int8 is calibrated, at most MOST_CLIPS, evenly over the set.

    Args:
        model: what they are for.
        clips: a set of clips; empty for the training clips of the model.

    Raises:
        FileNotFoundError, ValueError: there are none, or they cannot be read or prepared.
    """
    config, skeleton = model.data, model.skeleton
    try:
        if clips:
            found = open_clips(clips)
            prepared = Prepared(
                MappedClips(found, skeleton) if found.skeleton.names != skeleton.names else found, config
            )
        else:
            prepared = open_split(config, skeleton).prepared
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"export: int8 needs clips by which its steps are chosen (--clips): {error}") from error
    count = prepared.shape[0]
    return prepared.rows(np.unique(np.linspace(0, count - 1, MOST_CLIPS).round().astype(np.int64)))


def _torch_bytes(model: Classifier) -> bytes:
    folded = fold(model)
    C, V = model.first_encoder.config.in_channels, model.skeleton.num_joints
    # torch.export guards against sizes of 1, also within, and makes a constant of one that it sees.
    shortest = max(2 * encoder.segments * math.prod(b.stride for b in encoder.blocks) for encoder in folded.encoders)
    example = torch.zeros(2, C, max(model.data.frames, shortest), V, model.data.persons)
    free = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC}
    program = torch.export.export(PlainClassifier(folded).eval(), (example,), dynamic_shapes=(free,))
    content = io.BytesIO()
    torch.export.save(program, content)
    return content.getvalue()


FORMATS: dict[str, Callable[[Classifier], bytes]] = {"edge": edge_bytes, "onnx": onnx_bytes, "torch": _torch_bytes}
