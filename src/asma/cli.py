"""The command ``asma``: one subcommand for each thing to do, its options made from the dataclasses."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from .config import PRESETS, PretrainConfig, load_config, preset, with_masks
from .extras import MissingExtra, extra

A = TypeVar("A")
USER_ERROR = 2
INTERRUPTED = 130

# tyro reads its markers from annotations; without it installed, every command ends in one sentence before they are read.
try:
    import tyro

    Flat = tyro.conf.arg(name="")
    Positional = tyro.conf.Positional
except ImportError:
    Flat = Positional = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Pretrain:
    """Train one encoder without labels on the training clips."""

    out: Path
    """The run's folder: config.json, metrics.jsonl, checkpoint.pt and, at the end, encoder.safetensors."""
    preset: Literal["asma", "pstl", "cpu", "demo"] = "asma"
    """Where the options start from. asma: the paper's settings; pstl: PSTL's masks with them; cpu: learns on small sets on
    a few cores; demo: the same for minutes."""
    encoder_of: Literal["preset", "e1", "e2", "pstl"] = "preset"
    """Whose masks: e1 drops joints of high degree and frames of low motion, e2 the opposite, pstl high and high."""
    resume: bool = False
    """Go on with the run in --out, with its own options."""
    config: Annotated[PretrainConfig, Flat] = field(default_factory=PretrainConfig)


def start_of_pretrain(arguments: Sequence[str]) -> Pretrain:
    """The values that options start from: a preset's, or those of the run that is resumed."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset", default="asma")
    parser.add_argument("--encoder-of", "--encoder_of", default="preset")
    parser.add_argument("--out")
    parser.add_argument("--resume", action="store_true")
    try:
        found, _ = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError:  # tyro says it better
        return Pretrain(out=Path())
    if found.resume and found.out:
        return Pretrain(out=Path(found.out), config=load_config(Path(found.out) / "config.json"))
    config = preset(found.preset)
    if found.encoder_of != "preset":
        config = with_masks(config, found.encoder_of)
    return Pretrain(out=tyro.MISSING, preset=found.preset, encoder_of=found.encoder_of, config=config)


def run_pretrain(options: Pretrain) -> None:
    from .prepare import open_split
    from .pretrain import pretrain

    split = open_split(options.config.data)
    pretrain(options.config, split.train_x, split.train.skeleton, options.out, options.resume)
    print(f"{options.out}: {options.config.optimiser.total_steps(len(split.train))} steps are done")
