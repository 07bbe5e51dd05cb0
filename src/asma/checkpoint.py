"""Files of a run: checkpoints that a run goes on from, and encoders by themselves.

Nothing here runs code from a file: ``torch.load(weights_only=True)`` and safetensors only. Every file is written under
another name, flushed to the disk and then renamed, so a crash or a full disk leaves the old one as it was.
"""

from __future__ import annotations

import functools
import json
import os
import pickle
import platform
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from asma_kernels import Skeleton

from . import __version__
from .config import EncoderConfig
from .config_file import from_dict, to_dict
from .extras import extra
from .files import sync, write_atomically
from .models import Encoder

FORMAT = 1
CHECKPOINT_FILE = "checkpoint.pt"
CONFIG_FILE = "config.json"
ENCODER_FILE = "encoder.safetensors"
METRICS_FILE = "metrics.jsonl"


class DamagedCheckpointError(ValueError):
    """A checkpoint cannot be read.

    Attributes:
        fact: which one and why, without what to do.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.fact = f"checkpoint {path} cannot be read ({reason})"
        super().__init__(
            f"{self.fact}: put a copy of it back, or delete the folder {path.parent} and start the run again"
        )


@functools.cache
def versions() -> dict[str, str]:
    """Versions of what a result depends on; of a git checkout also its commit, with a + where files differ from it."""
    found = {
        "asma": __version__, "torch": str(torch.__version__), "numpy": np.__version__,
        "python": platform.python_version(),
    }  # fmt: skip
    here = Path(__file__).parent
    described = subprocess.run(
        ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],
        capture_output=True, text=True, check=False,
    ) if shutil.which("git") else None  # fmt: skip
    if described is not None and described.returncode == 0 and (here.parents[1] / ".git").exists():
        found["git"] = described.stdout.strip()
    return found


class Found(NamedTuple):
    """A checkpoint, and why it is not the newest one, or nothing."""

    content: dict[str, Any]
    why: str


def save_checkpoint(path: Path, kind: str, state: dict[str, Any]) -> None:
    """Tensors and plain containers, with the kind, format and versions that ``load_checkpoint`` checks.

    Raises:
        OSError: the file cannot be written; the one of that name is as it was.
    """
    content = {"format": FORMAT, "kind": kind, "versions": versions(), **state}
    try:
        write_atomically(path, lambda part: torch.save(content, part))
    except (OSError, RuntimeError) as error:  # torch.save has words of its own for a full disk
        free = shutil.disk_usage(path.parent).free // 10**6
        raise OSError(
            f"{path} cannot be written ({_reason(error)}), {free} MB are free there: make room; what was saved before "
            "is as it was"
        ) from error


def rotate_checkpoint(path: Path, kind: str, state: dict[str, Any]) -> None:
    """Write a checkpoint; the one before stays, as ``path`` with PREVIOUS before its suffix.

    At every moment one of both is whole: the new one is on the disk before the old one changes its name.
    """
    fresh = path.with_name(f"{path.stem}.next{path.suffix}")
    save_checkpoint(fresh, kind, state)
    if path.exists():
        os.replace(path, previous(path))
    os.replace(fresh, path)
    sync(path.parent)


def previous(path: Path) -> Path:
    """Where the checkpoint before the newest one is."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def load_newest_checkpoint(path: Path, kind: str) -> Found | None:
    """The newest checkpoint that can be read: at ``path``, or the one before; None if there is none.

    Raises:
        ValueError: there are some, and none of them can be read, or the newest is of another kind or format.
    """
    damaged: DamagedCheckpointError | None = None
    for file in (path, previous(path)):
        try:
            if file.exists():
                return Found(load_checkpoint(file, kind), damaged.fact if damaged else "")
        except DamagedCheckpointError as error:
            damaged = damaged or error
    if damaged:
        raise damaged
    return None


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
        raise DamagedCheckpointError(path, _reason(error)) from None
    if content.get("kind") != kind:
        raise ValueError(f"checkpoint {path} must hold a {kind}, it holds a {content.get('kind')}")
    if content["format"] != FORMAT:
        raise ValueError(
            f"checkpoint {path} has format {content['format']}, this version reads {FORMAT}: "
            f"use asma-kernels {content['versions']['asma']}"
        )
    return content


def checksum(tensors: Iterable[torch.Tensor], found: int = 0) -> int:
    """A number that changes with any of the values; ``found`` is that of the tensors before these."""
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
