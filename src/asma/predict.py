"""Name the action in one clip, with a teacher or a student."""

from __future__ import annotations

import difflib
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from .classifier import Classifier
from .data import Clips, ClipSet
from .evaluate import evaluation_mode
from .prepare import prepare

__all__ = ["Prediction", "clip_number", "clip_of_file", "predict", "predict_of_set"]

MOST_NAMES = 3


@dataclass(frozen=True)
class Prediction:
    """The classes of a model from likely to unlikely, and their probabilities, which add up to 1."""

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]

    def __str__(self) -> str:
        """The five likeliest classes, one a line.

        >>> print(Prediction(("wave", "kick"), (0.9, 0.1)))
         90.0 %  wave
         10.0 %  kick
        """
        best = list(zip(self.classes, self.probabilities, strict=True))[:5]
        return "\n".join(f"{100 * probability:5.1f} %  {name}" for name, probability in best)


def predict(model: Classifier, clip: ArrayLike) -> Prediction:
    """Classes and probabilities of one clip, which is prepared as the model's training clips were.

    Args:
        model: a teacher or student of `load_classifier`; its mode is the same afterwards.
        clip: (T, V, 3) real numbers, T at least 1, in the axes and with the joints of the model's training clips.

    Raises:
        ValueError: no frame, other joints than the model's, or coordinates that are not finite.
    """
    frames = check_clip("predict", clip, model)
    clips = ClipSet(
        data=frames,
        offsets=np.array([0, len(frames)]),
        label=np.zeros(1, np.int64),
        subject=np.zeros(1, np.int64),
        view=np.zeros(1, np.int64),
        name=np.array(["clip"]),
        classes=model.classes,
        skeleton=model.skeleton,
        title="one clip",
    )
    return _answer(model, clips)


def predict_of_set(model: Classifier, clips: Clips, which: int | str) -> Prediction:
    """Classes and probabilities of one clip of a set, with all its persons that the model was trained on.

    Args:
        model: a teacher or student of `load_classifier`; its mode is the same afterwards.
        clips: a set with the joints of the model's training clips.
        which: the clip's number from 0, or its name.

    Raises:
        ValueError: there is no such clip, or other joints than the model's.
    """
    number = clip_number(clips, which)
    if clips.skeleton.num_joints != model.skeleton.num_joints:
        raise ValueError(
            f"predict: a clip must have the {model.skeleton.num_joints} joints of {model.skeleton.name}, on which the "
            f"model was trained, got {clips.skeleton.num_joints}"
        )
    return _answer(model, clips.subset([number]))


def _answer(model: Classifier, clips: Clips) -> Prediction:
    device = next(model.parameters()).device
    with evaluation_mode(model):
        found = model(prepare(clips, model.data).to(device)).float().softmax(dim=1)[0].cpu()
    if not found.isfinite().all():
        raise ValueError(
            "predict: the model's answer is not finite: coordinates must be smaller, or its weights are broken"
        )
    order = torch.argsort(found, descending=True, stable=True).tolist()
    return Prediction(tuple(model.classes[label] for label in order), tuple(found[order].tolist()))


def clip_number(clips: Clips, which: int | str) -> int:
    """The number of a clip of a set, by that number or by its name.

    Raises:
        ValueError: there is no such clip; the message says what there is.
    """
    names = clips.name.tolist()
    if isinstance(which, str) and which in names:
        return names.index(which)
    number = int(which) if str(which).isascii() and str(which).isdigit() else None
    if number is not None and number < len(clips):
        return number
    near = difflib.get_close_matches(str(which), names, MOST_NAMES, 0.5) or names[:MOST_NAMES]
    raise ValueError(
        f"clip must be a name or a number from 0 to {len(clips) - 1} of {clips.title}, got {str(which)!r}; "
        f"names are like {', '.join(near)}"
    )


def clip_of_file(path: str | os.PathLike[str]) -> NDArray[Any]:
    """The one clip of an .npz file: its only array, or the one called ``data``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds Python objects, a set of clips, or several arrays of which none is ``data``.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there")
    try:
        if not zipfile.is_zipfile(file):
            raise ValueError("it is not a zip archive")
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray):
                raise ValueError(f"{name} is not an array")
    except Exception as error:  # whatever a damaged file makes zipfile, zlib and numpy raise
        raise ValueError(f"{file} must be an .npz file without pickled objects, but {error}") from None
    if "offsets" in arrays:
        raise ValueError(
            f"{file} must hold one clip, it holds a set of {max(arrays['offsets'].size - 1, 0)}: name one of them"
        )
    if len(arrays) != 1 and "data" not in arrays:
        raise ValueError(f"{file} must hold one array, or one called data, it holds {', '.join(arrays) or 'none'}")
    return arrays["data"] if "data" in arrays else next(iter(arrays.values()))


def check_clip(where: str, clip: ArrayLike, model: Classifier) -> NDArray[np.float32]:
    """The clip as float32 (T, V, 3), or a ValueError that begins with `where`."""
    try:
        found = np.asarray(clip)
    except (TypeError, ValueError, RuntimeError) as error:  # lists of different lengths, tensors that need gradients
        raise ValueError(f"{where}: a clip must be an array of real numbers, but {error}") from None
    V = model.skeleton.num_joints
    if found.dtype.kind not in "fiu":
        raise ValueError(f"{where}: a clip must be of real numbers, got {found.dtype}")
    if found.ndim != 3 or found.shape[2] != 3:
        raise ValueError(f"{where}: a clip must be (T, {V}, 3), got shape {found.shape}")
    if found.shape[1] != V:
        raise ValueError(
            f"{where}: a clip must have the {V} joints of {model.skeleton.name}, on which the model was trained, got"
            f" {found.shape[1]}"
        )
    if not len(found):
        raise ValueError(f"{where}: a clip must have at least one frame, got none")
    with np.errstate(over="ignore"):
        frames = found.astype(np.float32)
    broken = np.argwhere(~np.isfinite(frames))
    if len(broken):
        frame, joint, axis = broken[0].tolist()
        raise ValueError(
            f"{where}: coordinates must be finite, got {frames[frame, joint, axis]} at frame {frame}, joint {joint}"
            f" ({model.skeleton.names[joint]})"
        )
    return frames
