"""Configs as JSON: written into a run's folder, read back with every key and type checked."""

from __future__ import annotations

import dataclasses
import json
import types
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .config import need

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """Plain dicts, lists, numbers and strings, as JSON and ``torch.load(weights_only=True)`` take them."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def from_dict(cls: type[T], values: object, where: str = "config") -> T:
    """A config from what ``to_dict`` gave, every key and type checked; of this version or an earlier one.

    Raises:
        ValueError: an unknown or missing key, a value of the wrong type or out of its range.

    >>> from asma.config import OptimiserConfig
    >>> from_dict(OptimiserConfig, to_dict(OptimiserConfig(batch=4))).batch
    4
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where} must be an object of keys and values, got {values!r}")
    hints = get_type_hints(cls)
    known = {each.name: each for each in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        need(key in known, f"{where} must have no other keys than {', '.join(known)}", repr(key))
    for key, option in known.items():
        there = key in values or "later" in option.metadata
        need(there, f"{where} must have the key {key}", ", ".join(map(str, values)) or "none")
    before = {key: option.metadata["before"] for key, option in known.items() if "before" in option.metadata}
    values = before | values
    try:
        return cls(**{key: _typed(hints[key], value, f"{where}.{key}") for key, value in values.items()})
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None


def _typed(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)  # type: ignore[arg-type]
    origin, options = get_origin(hint), get_args(hint)
    if origin is Literal:
        need(value in options, f"{where} must be one of {', '.join(map(str, options))}", repr(value))
        return value
    if origin in (Union, types.UnionType):
        return None if value is None else _typed(next(each for each in options if each is not type(None)), value, where)
    if origin is tuple:
        need(isinstance(value, list | tuple), f"{where} must be a list", repr(value))
        return tuple(_typed(options[0], each, where) for each in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    # bool is an int to Python, not to a reader of the file.
    need(
        isinstance(value, hint) and (hint is bool or not isinstance(value, bool)),
        f"{where} must be of type {hint.__name__}",
        repr(value),
    )
    return value


def load_config(path: Path, cls: type[T]) -> T:
    """The config of a run's folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not JSON or breaks a rule; the message names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: the folder holds no run")
    try:
        return from_dict(cls, json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{path} is not the config of a run: {error}") from None


def difference(saved: dict[str, Any], wanted: dict[str, Any], where: str = "") -> str:
    """The first key in which two configs differ, with both values; the empty string if none does.

    >>> difference({"a": {"b": 1}}, {"a": {"b": 2}})
    'a.b (1, not 2)'
    """
    for key, value in saved.items():
        if isinstance(value, dict) and isinstance(wanted[key], dict):
            found = difference(value, wanted[key], f"{where}{key}.")
            if found:
                return found
        elif value != wanted[key]:
            return f"{where}{key} ({value}, not {wanted[key]})"
    return ""
