"""The two sides of a split in formats that keep them in arrays of their own."""

from __future__ import annotations

import re

from asma.data.source import Clip, Header

__all__ = ["side_of_clip", "sides_of"]


def sides_of(header: Header) -> tuple[str, ...]:
    """The two names of a usual split TRAIN/TEST, fit for names of files; nothing where it is of another kind.

    >>> from asma_kernels import Skeleton
    >>> sides_of(Header("t", Skeleton.builtin("ntu25"), "xyz", (), "xsub_train/xsub_val"))
    ('xsub_train', 'xsub_val')
    """
    names = re.fullmatch(r"(\w[\w.+-]{0,40})/(\w[\w.+-]{0,40})", header.usual_split)
    return names.groups() if names and names[1] != names[2] else ()


def side_of_clip(where: str, clip: Clip, sides: tuple[str, ...]) -> int:
    """0 or 1, the side that the clip is on; 0 for every clip where there are no sides.

    Raises:
        ValueError: it is on neither side, or on both.
    """
    if not sides:
        return 0
    on = [side for side in sides if side in clip.splits]
    if len(on) != 1:
        raise ValueError(
            f"{where}: clip {clip.name!r}: must be on one side of {'/'.join(sides)}, its splits are"
            f" {', '.join(clip.splits) or 'none'}"
        )
    return sides.index(on[0])
