"""A model that names the class of a clip, teacher or student, and the file it lives in."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from asma_kernels import Skeleton

from .checkpoint import checksum, skeleton_from_dict, skeleton_to_dict, versions
from .config import DataConfig, EncoderConfig
from .config_file import from_dict, to_dict
from .extras import extra
from .files import write_atomically
from .models import Encoder
from .models.alignment import Alignment

__all__ = ["CLASSIFIER_FILE", "Classifier", "count_parameters", "load_classifier", "save_classifier"]

CLASSIFIER_FILE = "classifier.safetensors"


def count_parameters(model: nn.Module) -> int:
    """Learnable numbers of a model, frozen ones too; buffers are not counted.

    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in model.parameters())


class Classifier(nn.Module):
    """One encoder (a student) or two with an alignment (a teacher), and a linear head.

    It also knows what a user of it has to: the names of the classes and how its clips are prepared.

    >>> from asma.config import EncoderConfig
    >>> encoder = Encoder(EncoderConfig(channels=(4, 8), strides=(1, 2)), Skeleton.builtin("ntu25"))
    >>> student = Classifier([encoder], None, nn.Linear(8, 2), ("sit", "stand"), DataConfig())
    >>> student(torch.zeros(3, 3, 16, 25, 1)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        encoders: Sequence[Encoder],
        alignment: Alignment | None,
        head: nn.Linear,
        classes: Sequence[str],
        data: DataConfig,
    ) -> None:
        """
        Args:
            encoders: one, or two of the same size.
            alignment: of two encoders; None for one.
            head: (N, D) -> (N, K).
            classes: K names.
            data: how clips become the tensors that the encoders take.

        Raises:
            ValueError: the parts do not fit each other.
        """
        super().__init__()
        if len(encoders) != (1 if alignment is None else 2):
            raise ValueError(
                f"Classifier: encoders must be {1 if alignment is None else 2} "
                f"{'without' if alignment is None else 'with'} an alignment, got {len(encoders)}"
            )
        features = encoders[0].features if alignment is None else alignment.features
        if head.in_features != features or head.out_features != len(classes):
            raise ValueError(
                f"Classifier: head must take {features} features to {len(classes)} classes, it takes {head.in_features}"
                f" to {head.out_features}"
            )
        self.encoders = nn.ModuleList(encoders)
        self.alignment = alignment
        self.head = head
        self.classes = tuple(classes)
        self.data = data

    @property
    def first_encoder(self) -> Encoder:
        """The only one of a student, encoder 1 of a teacher."""
        return cast(Encoder, self.encoders[0])

    @property
    def skeleton(self) -> Skeleton:
        """Of the clips."""
        return self.first_encoder.skeleton

    @property
    def features(self) -> int:
        """D, the size of the representation."""
        return self.head.in_features

    def represent(self, x: torch.Tensor) -> torch.Tensor:
        """Clips (N, C, T, V, M) -> representation (N, D)."""
        found = [encoder(x) for encoder in self.encoders]
        return found[0] if self.alignment is None else self.alignment(*found)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Clips (N, C, T, V, M) -> logits (N, K)."""
        return self.head(self.represent(x))


def save_classifier(path: Path, model: Classifier, notes: dict[str, Any]) -> None:
    """Weights as safetensors, written atomically; sizes, skeleton, classes and `notes` (plain values) beside them."""
    safetensors = extra("safetensors.torch")
    alignment = model.alignment
    description = {
        "encoders": [to_dict(encoder.config) for encoder in model.encoders],
        "alignment": None if alignment is None else _alignment_to_dict(alignment),
        "classes": list(model.classes),
        "data": to_dict(model.data),
    }
    metadata = {
        "classifier": json.dumps(description),
        "skeleton": json.dumps(skeleton_to_dict(model.skeleton)),
        "notes": json.dumps(notes),
        "versions": json.dumps(versions()),
    }
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in model.state_dict().items()}
    metadata["checksum"] = _checksum(metadata, tensors)
    content = safetensors.save(tensors, metadata)  # save_file would leave a file that only its owner can read
    write_atomically(path, lambda part: part.write_bytes(content))


def load_classifier(path: str | os.PathLike[str]) -> tuple[Classifier, dict[str, Any]]:
    """The classifier and the notes of a file, or of the folder of a teacher or student, in evaluation mode.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or is no classifier of asma.
    """
    file = Path(path)
    if file.is_dir():
        file = file / CLASSIFIER_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there: a probe of both encoders or a distillation writes it")
    safetensors = extra("safetensors")
    try:
        with safetensors.safe_open(file, "pt") as archive:
            metadata = archive.metadata() or {}
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
        # None: of a run from before there were checksums.
        if metadata.pop("checksum", None) not in (None, _checksum(metadata, tensors)):
            raise ValueError("its checksum is wrong")
        description = json.loads(metadata["classifier"])
        skeleton = skeleton_from_dict(json.loads(metadata["skeleton"]))
        encoders = [Encoder(from_dict(EncoderConfig, each, "encoder"), skeleton) for each in description["encoders"]]
        alignment = None
        if description["alignment"] is not None:
            alignment = Alignment(encoders[0].features, **description["alignment"])
        features = encoders[0].features if alignment is None else alignment.features
        classes = description["classes"]
        data = from_dict(DataConfig, description["data"], "data")
        model = Classifier(encoders, alignment, nn.Linear(features, len(classes)), classes, data)
        model.load_state_dict(tensors)
        notes: dict[str, Any] = json.loads(metadata["notes"])
    except Exception as error:  # whatever a damaged file makes safetensors, json and torch raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{file} is not a classifier of asma ({type(error).__name__}: {reason})") from None
    return model.eval(), notes


def _alignment_to_dict(alignment: Alignment) -> dict[str, Any]:
    """The arguments of an equal alignment, besides the size of the encoders' features."""
    found: dict[str, Any] = {"mode": alignment.mode, "out": alignment.features}
    return found | {"dropout": alignment.dropout.p} if alignment.mode == "aligned" else found


def _checksum(metadata: dict[str, str], tensors: dict[str, torch.Tensor]) -> str:
    """Changes with anything that the file says: safetensors itself would not notice other weights or class names."""
    names = sorted(tensors)
    said = [metadata, [[name, str(tensors[name].dtype), list(tensors[name].shape)] for name in names]]
    texts = zlib.crc32(json.dumps(said, sort_keys=True).encode())
    return f"{texts:08x}{checksum(tensors[name] for name in names):08x}"
