"""`asma data show`."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..data.formats import registry
from ..data.source import Source
from ..files import write_atomically
from .clip import find_clip, shown
from .page import clip_page
from .pictures import clip_gif, clip_strip

with contextlib.suppress(ImportError):  # asma.cli says so in one sentence
    from tyro.conf import Positional

__all__ = ["Show", "run_show"]

KINDS = (".html", ".gif", ".png")


@dataclass(frozen=True)
class Show:
    """Draw one clip as a page that plays it, a GIF or a PNG strip, with both encoders' masks and motion energy."""

    source: Positional[Path]
    """A file or a folder of any format that asma reads."""
    out: Path
    """What to write: .html, .gif or .png."""
    clip: str = "0"
    """Name of the clip, or its number from 0."""
    format: str = ""
    """Name of the format; empty to find it out."""
    frames_per_second: float = 30.0
    """How fast it plays; formats do not tell."""
    seed: int = 0
    """Of the joints that the encoders drop, which are drawn."""

    def __post_init__(self) -> None:
        if self.out.suffix.lower() not in KINDS:
            raise ValueError(f"show: out must end in {', '.join(KINDS)}, got {self.out}")
        if os.path.lexists(self.out):
            raise FileExistsError(f"show: {self.out} exists already, take another name")
        if not self.out.absolute().parent.is_dir():
            raise FileNotFoundError(f"show: {self.out.parent} is not a folder to write to")
        if not (math.isfinite(self.frames_per_second) and self.frames_per_second > 0):
            raise ValueError(f"show: frames_per_second must be positive, got {self.frames_per_second}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"show: seed must be in [0, 2^63), got {self.seed}")


def run_show(options: Show, open_source: Callable[[Path, str], Source] | None = None) -> None:
    """Write what was asked for.

    Args:
        open_source: that of `asma.data`, where not given.

    Raises:
        ValueError, OSError: the source cannot be opened, it has no such clip, or the file cannot be written.
    """
    source = (open_source or registry.open_source)(options.source, options.format)
    clip = shown(find_clip(source, options.clip), source.header, options.seed)
    kind = options.out.suffix.lower()
    if kind == ".html":
        content = clip_page(clip, options.frames_per_second).encode()
    else:
        content = clip_gif(clip, options.frames_per_second) if kind == ".gif" else clip_strip(clip)
    write_atomically(options.out, lambda part: part.write_bytes(content))
    print(f"{options.out}: {clip.clip.name}, {clip.clip.frames} frames")
