"""The student of a distillation: which ST-GCN it is, and how large it may be beside its teacher."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple

import torch
from torch import nn

from .classifier import Classifier, count_parameters
from .config import LATER, EncoderConfig, need
from .models import Encoder

__all__ = ["NARROW", "STUDENTS", "Sizes", "StudentConfig", "make_student", "student_sizes"]

LARGEST_SHARE = 0.086
"""The paper's student has 91.4 % fewer parameters than its teacher."""
CHANNEL_STEP = 4
AUTO: Final = "auto"
NARROW: Final = "narrow"


class Sizes(NamedTuple):
    """What of an encoder is a student's own."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    kernel: int


STUDENTS = {
    "base": Sizes((16, 32, 48), (2, 2, 2), 9),
    "small": Sizes((16, 32, 48), (4, 2, 1), 9),
    "nano": Sizes((16, 32), (4, 2), 9),
}
"""The largest first. Chosen by what `python -m bench.edge_front` measured, docs/edge.md."""


@dataclass(frozen=True)
class StudentConfig:
    """The student's blocks; readout, skeleton, classes and preparation are the teacher's."""

    student: Literal["auto", "base", "small", "nano", "narrow"] = field(
        default=AUTO, metadata=LATER | {"before": NARROW}
    )
    """base, small, nano: presets, measured in docs/edge.md. narrow: the teacher's own blocks, strides and kernel, at
    the largest even share of the widths that is small enough. auto: the first of base, small, nano and narrow that is
    small enough; narrow where channels, strides or kernel are given."""
    channels: tuple[int, ...] = ()
    """Channels of the student's blocks; empty for those of `student`."""
    strides: tuple[int, ...] = field(default=(), metadata=LATER)
    """Stride over frames of each block; empty for those of `student`."""
    kernel: int = field(default=0, metadata=LATER)
    """Frames under a temporal convolution, odd; 0 for that of `student`."""
    share: float = LARGEST_SHARE
    """Of the teacher's parameters, that the student may have at most."""

    def __post_init__(self) -> None:
        need(all(width >= 1 for width in self.channels), "channels must be positive", self.channels)
        need(all(stride >= 1 for stride in self.strides), "strides must be positive", self.strides)
        odd = self.kernel == 0 or (self.kernel > 0 and self.kernel % 2 == 1)
        need(odd, "kernel must be odd and positive, or 0 for that of the student", self.kernel)
        need(0 < self.share <= LARGEST_SHARE, f"share must be in (0, {LARGEST_SHARE}]", self.share)

    @property
    def own(self) -> bool:
        """Whether the student's sizes are given one by one."""
        return bool(self.channels or self.strides or self.kernel)


def student_sizes(teacher: Classifier, config: StudentConfig) -> tuple[str, Sizes]:
    """Which student `config` asks for, by name (a preset or narrow), and its sizes; torch's random state stays.

    Raises:
        ValueError: channels and strides are not as many, the student is too large, or no number of channels makes it
            small enough.
    """
    with torch.random.fork_rng(devices=[]):
        return _sizes(teacher, config)


def make_student(teacher: Classifier, config: StudentConfig) -> Classifier:
    """An untrained student of at most `config.share` of the teacher's parameters, counted in both as they are.

    The student has the readout of the teacher's encoders, but one encoder, blocks of its own and no dropout. It draws
    from torch's global random state.

    Raises:
        ValueError: as `student_sizes`.

    >>> from asma_kernels import Skeleton
    >>> from asma.config import DataConfig
    >>> from asma.models.alignment import Alignment
    >>> encoders = [Encoder(EncoderConfig(), Skeleton.builtin("ntu25")) for _ in range(2)]
    >>> teacher = Classifier(encoders, Alignment(256), nn.Linear(256, 2), ("sit", "stand"), DataConfig())
    >>> student = make_student(teacher, StudentConfig(student="small"))
    >>> student.first_encoder.config.channels == STUDENTS["small"].channels
    True
    """
    return _student(teacher, student_sizes(teacher, config)[1])


def _sizes(teacher: Classifier, config: StudentConfig) -> tuple[str, Sizes]:
    encoder, whole = teacher.first_encoder.config, count_parameters(teacher)
    most = int(config.share * whole)
    limit = (
        f"distill: a student must have at most {100 * config.share:g} % of the teacher's {whole:,} parameters, {most:,}"
    )

    def count(sizes: Sizes) -> int:
        return count_parameters(_student(teacher, sizes))

    name: str = config.student
    if name == AUTO:
        fitting = (preset for preset, sizes in STUDENTS.items() if not config.own and count(sizes) <= most)
        name = next(fitting, NARROW)
    theirs = STUDENTS.get(name, Sizes(encoder.channels, encoder.strides, encoder.kernel))
    sizes = Sizes(config.channels or theirs.channels, config.strides or theirs.strides, config.kernel or theirs.kernel)
    need(
        len(sizes.channels) == len(sizes.strides),
        f"distill: channels and strides must be as many, one a block; those of {name} are {len(theirs.channels)}",
        f"channels {sizes.channels} and strides {sizes.strides}",
    )
    if config.channels or name != NARROW:
        found = count(sizes)
        need(found <= most, limit, f"{found:,} with channels {sizes.channels}")
        return name, sizes
    widths = sorted({_narrowed(sizes.channels, part / 64) for part in range(1, 65)}, key=sum)
    # Parameters grow with the width, so the widest that fits is found by halving.
    low, high = 0, len(widths)
    while low < high:
        middle = (low + high) // 2
        if count(sizes._replace(channels=widths[middle])) <= most:
            low = middle + 1
        else:
            high = middle
    least = sizes._replace(channels=widths[0])
    need(low > 0, limit, f"{count(least):,} with the narrowest blocks, {widths[0]}")
    return name, sizes._replace(channels=widths[low - 1])


def _narrowed(channels: tuple[int, ...], part: float) -> tuple[int, ...]:
    return tuple(max(CHANNEL_STEP, CHANNEL_STEP * round(width * part / CHANNEL_STEP)) for width in channels)


def _student(teacher: Classifier, sizes: Sizes) -> Classifier:
    config: EncoderConfig = replace(teacher.first_encoder.config, **sizes._asdict(), dropout=0.0)
    encoder = Encoder(config, teacher.skeleton)
    head = nn.Linear(encoder.features, len(teacher.classes))
    return Classifier([encoder], None, head, teacher.classes, teacher.data)
