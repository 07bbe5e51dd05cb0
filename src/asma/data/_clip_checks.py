"""What a clip set may hold; every rule that is broken is one sentence with the field, what was found and the clip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asma_kernels.skeleton import Skeleton

INTEGER_FIELDS = ("offsets", "label", "subject", "view")
PER_CLIP_FIELDS = ("label", "subject", "view", "name")


def checked_fields(where: str, fields: dict[str, Any], skeleton: Skeleton) -> dict[str, Any]:
    """The fields of a clip set in their types, or a ValueError that begins with `where`."""
    data = _typed(where, "data", fields["data"], "f", np.dtype(np.float32))
    integers = {field: _typed(where, field, fields[field], "iu", np.dtype(np.int64)) for field in INTEGER_FIELDS}
    name = _typed(where, "name", fields["name"], "U", None)
    classes = fields["classes"]
    if not isinstance(classes, list | tuple) or not classes or not all(isinstance(text, str) for text in classes):
        raise ValueError(f"{where}: classes must be a list of at least one string, got {classes!r}")
    if not isinstance(skeleton, Skeleton):
        raise ValueError(f"{where}: skeleton must be an asma_kernels Skeleton, got {type(skeleton).__name__}")
    if data.ndim != 3 or data.shape[1:] != (skeleton.num_joints, 3):
        raise ValueError(f"{where}: data must be (frames, {skeleton.num_joints} joints, 3), got shape {data.shape}")
    offsets = integers["offsets"]
    if offsets.ndim != 1 or len(offsets) < 2:
        raise ValueError(f"{where}: offsets must have one number more than there are clips, got shape {offsets.shape}")
    count = len(offsets) - 1
    checked: dict[str, Any] = {"data": data, **integers, "name": name, "classes": tuple(classes)}
    checked["splits"] = _splits(where, fields["splits"], count)
    for field in PER_CLIP_FIELDS:
        if checked[field].shape != (count,):
            found = checked[field].shape
            raise ValueError(f"{where}: {field} must have {count} entries, one a clip, got shape {found}")
    if offsets[0] != 0 or offsets[-1] != len(data):
        raise ValueError(f"{where}: offsets must run from 0 to {len(data)} frames, got {offsets[0]} to {offsets[-1]}")
    for clip in np.flatnonzero(np.diff(offsets) <= 0)[:1]:
        begin, end = offsets[clip], offsets[clip + 1]
        found = "no frame" if begin == end else f"{end} after {begin}"
        raise ValueError(f"{where}: offsets must increase with every clip, got {found} at clip {str(name[clip])!r}")
    label = integers["label"]
    for clip in np.flatnonzero((label < 0) | (label >= len(classes)))[:1]:
        raise ValueError(
            f"{where}: label must be in [0, {len(classes)}), got {label[clip]} at clip {str(name[clip])!r}"
        )
    if not np.isfinite(data).all():
        frame, joint, axis = (int(found[0]) for found in np.nonzero(~np.isfinite(data)))
        clip = int(np.searchsorted(offsets, frame, "right")) - 1
        raise ValueError(
            f"{where}: coordinates must be finite, got {data[frame, joint, axis]} at clip {str(name[clip])!r},"
            f" frame {frame - offsets[clip]}, joint {joint} ({skeleton.names[joint]!r})"
        )
    return checked


def _splits(where: str, splits: object, count: int) -> dict[str, NDArray[np.bool_]]:
    if not isinstance(splits, Mapping) or not all(isinstance(name, str) and name for name in splits):
        raise ValueError(f"{where}: splits must be a mapping from names, got {splits!r}")
    checked = {}
    for name, members in splits.items():
        checked[name] = np.asarray(members)
        if checked[name].dtype != bool or checked[name].shape != (count,):
            found = f"{checked[name].dtype} of shape {checked[name].shape}"
            raise ValueError(f"{where}: split {name!r} must be {count} booleans, one a clip, got {found}")
    return checked


def _typed(where: str, field: str, value: object, kinds: str, dtype: np.dtype[Any] | None) -> NDArray[Any]:
    wanted = {"f": "real numbers", "iu": "integers", "U": "strings"}[kinds]
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{where}: {field} must be an array of {wanted}, got {error}") from None
    if array.dtype.kind not in kinds:
        raise ValueError(f"{where}: {field} must be an array of {wanted}, got {array.dtype}")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype)
