"""Files of a run: checkpoints that a run goes on from, and encoders by themselves.

Nothing here runs code from a file: ``torch.load(weights_only=True)`` and safetensors only. Every file is written under
another name, flushed to the disk and then renamed, so a crash or a full disk leaves the old one as it was.
"""

from __future__ import annotations

import json
import os
import pickle
import platform
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from asma_kernels import Skeleton

from . import __version__
from .config import EncoderConfig
from .config_file import from_dict, to_dict
from .extras import extra
from .files import write_atomically
from .models import Encoder

FORMAT = 1
CHECKPOINT_FILE = "checkpoint.pt"
CONFIG_FILE = "config.json"
ENCODER_FILE = "encoder.safetensors"
METRICS_FILE = "metrics.jsonl"


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    return {"asma": __version__, "torch": str(torch.__version__), "python": platform.python_version()}


def save_checkpoint(path: Path, kind: str, state: dict[str, Any]) -> None:
    """Tensors and plain containers, with the kind, format and versions that ``load_checkpoint`` checks."""
    content = {"format": FORMAT, "kind": kind, "versions": versions(), **state}
    write_atomically(path, lambda part: torch.save(content, part))


def load_checkpoint(path: Path, kind: str) -> dict[str, Any]:
    """What ``save_checkpoint`` wrote, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, of another kind or of a newer format; the message says what to do.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: there is nothing to go on from")
    try:
        # torch.load does not look at the checksums that torch.save writes.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is wrong")
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or "format" not in content:
            raise ValueError("it was not written by asma")
    except Exception as error:  # whatever a damaged file makes zipfile, pickle and torch raise
        raise ValueError(
            f"checkpoint {path} cannot be read ({_reason(error)}): put a copy of it back, or delete the folder "
            f"{path.parent} and start the run again"
        ) from None
    if content.get("kind") != kind:
        raise ValueError(f"checkpoint {path} must hold a {kind}, it holds a {content.get('kind')}")
    if content["format"] != FORMAT:
        raise ValueError(
            f"checkpoint {path} has format {content['format']}, this version reads {FORMAT}: "
            f"use asma-kernels {content['versions']['asma']}"
        )
    return content


def checksum(tensors: Iterable[torch.Tensor]) -> int:
    """A number that changes with any of the values."""
    found = 0
    for tensor in tensors:
        found = zlib.crc32(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data, found)
    return found


def _reason(error: Exception) -> str:
    """Why a file could not be read, in one line."""
    if isinstance(error, pickle.UnpicklingError):
        return "it holds more than tensors and plain values"
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def skeleton_to_dict(skeleton: Skeleton) -> dict[str, Any]:
    """Plain values, from which ``skeleton_from_dict`` makes an equal skeleton."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(skeleton)))
    return plain


def skeleton_from_dict(values: dict[str, Any]) -> Skeleton:
    def frozen(value: Any) -> Any:
        return tuple(map(frozen, value)) if isinstance(value, list) else value

    return Skeleton(**{key: frozen(value) for key, value in values.items()})


def save_encoder(path: Path, encoder: Encoder, notes: dict[str, Any]) -> None:
    """The encoder's weights as safetensors; sizes, skeleton and ``notes`` (plain values) are its metadata."""
    safetensors = extra("safetensors.torch")
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in encoder.state_dict().items()}
    metadata = {
        "encoder": json.dumps(to_dict(encoder.config)),
        "skeleton": json.dumps(skeleton_to_dict(encoder.skeleton)),
        "notes": json.dumps(notes),
        "versions": json.dumps(versions()),
    }
    content = safetensors.save(tensors, metadata)  # save_file would leave a file that only its owner can read
    write_atomically(path, lambda part: part.write_bytes(content))


def load_encoder(path: str | os.PathLike[str]) -> tuple[Encoder, dict[str, Any]]:
    """The encoder and the notes of a safetensors file, or of the folder of a finished run, in evaluation mode.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or is no encoder of asma.
    """
    file = Path(path)
    if file.is_dir():
        file = file / ENCODER_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there: a finished pretraining run writes it")
    safetensors = extra("safetensors")
    try:
        with safetensors.safe_open(file, "pt") as archive:
            metadata = archive.metadata() or {}
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
        config = from_dict(EncoderConfig, json.loads(metadata["encoder"]), "encoder")
        encoder = Encoder(config, skeleton_from_dict(json.loads(metadata["skeleton"])))
        encoder.load_state_dict(tensors)
        notes: dict[str, Any] = json.loads(metadata["notes"])
    except Exception as error:
        raise ValueError(f"{file} is not an encoder of asma ({_reason(error)})") from None
    return encoder.eval(), notes


def load_pstl_weights(encoder: Encoder, path: str | os.PathLike[str]) -> None:
    """Load a state dict that PSTL's own code saved into an encoder of the same sizes and graph.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read without running code from it, or its tensors do not fit the encoder.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is not there")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        # Trained under DataParallel every name has a prefix; fc is the classifier of some protocols.
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    except Exception as error:
        raise ValueError(f"{path} is not a state dict ({_reason(error)})") from None
    state = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    try:
        encoder.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the encoder: {' '.join(str(error).split())}") from None
