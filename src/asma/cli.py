"""The command ``asma``: one subcommand for each thing to do, its options made from dataclasses.

What a user can get wrong ends in one sentence on stderr and exit status 2, without a traceback.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from .checkpoint import CONFIG_FILE, METRICS_FILE, load_encoder
from .config import PretrainConfig, preset, with_masks
from .config_file import from_dict, load_config, to_dict
from .demo import DemoConfig, run_demo
from .evaluate import ProbeConfig, encode_clips, knn, linear_probe
from .extras import MissingExtraError, extra
from .prepare import Split, open_split
from .pretrain import pretrain
from .results import markdown

try:
    from tyro import MISSING
    from tyro.conf import Positional, arg

    Flat = arg(name="")
except ImportError:
    pass  # main says so in one sentence; until then nothing looks at these names

USER_ERROR = 2
INTERRUPTED = 130


@dataclass(frozen=True)
class Demo:
    """Pretrain both encoders, measure them against an untrained one, and write a table and a report."""

    out: Path = Path("runs/demo")
    """Folder of everything that is made; the same command goes on where an interrupted one stopped."""
    config: Annotated[DemoConfig, Flat] = field(default_factory=DemoConfig)


@dataclass(frozen=True)
class Pretrain:
    """Train one encoder without labels, on the training clips."""

    out: Path
    """The run's folder: config.json, metrics.jsonl, checkpoint.pt and, at the end, encoder.safetensors."""
    preset: Literal["asma", "pstl", "cpu", "demo"] = "asma"
    """Where the options start from. asma: the paper's settings; pstl: PSTL's masks with them; cpu: learns on small sets
    on a few cores; demo: the same in minutes."""
    encoder_of: Literal["preset", "e1", "e2", "pstl"] = "preset"
    """Whose masks: e1 drops joints of high degree and frames of low motion, e2 the opposite, pstl high and high."""
    resume: bool = False
    """Go on with the run in --out, with its own options."""
    config: Annotated[PretrainConfig, Flat] = field(default_factory=PretrainConfig)


@dataclass(frozen=True)
class Probe:
    """Accuracy of a linear classifier on the frozen features of encoders."""

    runs: Positional[tuple[Path, ...]]
    """Folders of finished pretraining runs, or .safetensors files of encoders."""
    clips: str = ""
    """Other clips than those of the run: transfer."""
    protocol: str = ""
    """How they are split; empty for the split of the run, or the usual one of other clips."""
    config: Annotated[ProbeConfig, Flat] = field(default_factory=ProbeConfig)


@dataclass(frozen=True)
class Knn:
    """Accuracy of the nearest training clips by cosine; nothing is trained."""

    runs: Positional[tuple[Path, ...]]
    """Folders of finished pretraining runs, or .safetensors files of encoders."""
    k: int = 1
    """Neighbours that vote."""
    clips: str = ""
    """Other clips than those of the run: transfer."""
    protocol: str = ""
    """How they are split; empty for the split of the run, or the usual one of other clips."""


@dataclass(frozen=True)
class Info:
    """Versions and backends, and what a run is."""

    runs: Positional[tuple[Path, ...]] = ()
    """Folders of pretraining runs."""


def demo(options: Demo) -> None:
    results = run_demo(options.config, options.out)
    print(markdown(results) + f"\nreport: {options.out / 'report.html'}")


def start_of_pretrain(arguments: Sequence[str]) -> Pretrain:
    """What the options start from: a preset, or the run that is resumed."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", default="asma")
    parser.add_argument("--encoder-of", "--encoder_of", default="preset")
    parser.add_argument("--out", default="")
    parser.add_argument("--resume", action="store_true")
    # A name without its value is left for tyro to complain of.
    found, _ = parser.parse_known_args([*arguments, ""])
    if found.resume and found.out:
        return Pretrain(MISSING, resume=True, config=load_config(Path(found.out) / CONFIG_FILE, PretrainConfig))
    config = preset(found.preset)
    if found.encoder_of != "preset":
        config = with_masks(config, found.encoder_of)
    return Pretrain(MISSING, found.preset, found.encoder_of, config=config)


def run_pretrain(options: Pretrain) -> None:
    split = open_split(options.config.data)
    pretrain(options.config, split.train_x, split.train.skeleton, options.out, options.resume)
    print(f"{options.out}: done, {options.config.optimiser.total_steps(len(split.train))} steps")


def each_run(options: Probe | Knn, measure: Callable[[Any, Any, Split], str]) -> None:
    """Print what ``measure`` says of the training and test features of each run."""
    if not options.runs:
        raise ValueError("give the folder of at least one finished pretraining run")
    for run in options.runs:
        encoder, notes = load_encoder(run)
        data = from_dict(PretrainConfig, notes["pretraining"], f"{run}: its config").data
        if options.clips or options.protocol:
            data = replace(data, clips=options.clips or data.clips, protocol=options.protocol)
        split = open_split(data)
        if split.train.skeleton.num_joints != encoder.skeleton.num_joints:
            raise ValueError(
                f"{run} was trained on the {encoder.skeleton.num_joints} joints of {encoder.skeleton.name}, "
                f"{data.clips} has {split.train.skeleton.num_joints}: take clips of the same joints"
            )
        features = (encode_clips(encoder, x, title=run.name) for x in (split.train_x, split.test_x))
        print(f"{run} on {split.train.title}: {measure(*features, split)}", flush=True)


def run_probe(options: Probe) -> None:
    def measure(train: Any, test: Any, split: Split) -> str:
        classes = len(split.train.classes)
        found = linear_probe(train, split.train.label, test, split.test.label, options.config, classes)
        return f"linear probe {100 * found.top1:.1f} %, top 5 {100 * found.top5:.1f} %"

    each_run(options, measure)


def run_knn(options: Knn) -> None:
    def measure(train: Any, test: Any, split: Split) -> str:
        share = knn(train, split.train.label, test, split.test.label, options.k)
        return f"{options.k}-NN {100 * share:.1f} %"

    each_run(options, measure)


def info(options: Info) -> None:
    from asma_kernels import env

    print(env.report())
    for run in options.runs:
        config = json.dumps(to_dict(load_config(run / CONFIG_FILE, PretrainConfig)), indent=2)
        metrics = run / METRICS_FILE
        lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
        print(f"\n{run}: {config}\nlast metrics: {lines[-1] if lines else 'none yet'}")


class Command(NamedTuple):
    options: type[Any]
    run: Callable[[Any], None]


COMMANDS = {
    "demo": Command(Demo, demo),
    "pretrain": Command(Pretrain, run_pretrain),
    "probe": Command(Probe, run_probe),
    "knn": Command(Knn, run_knn),
    "info": Command(Info, info),
}


def usage() -> str:
    lines = ["usage: asma COMMAND [OPTIONS]", ""]
    lines += [f"  {name:<10}{command.options.__doc__}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", "asma COMMAND --help lists a command's options."])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(usage())
        return 0 if given else USER_ERROR
    name, *rest = given
    try:
        if name not in COMMANDS:
            raise ValueError(f"command {name!r} is unknown, commands are {', '.join(COMMANDS)}")
        command = COMMANDS[name]
        cli = extra("tyro").cli
        default = {"default": start_of_pretrain(rest)} if command.options is Pretrain else {}
        command.run(cli(command.options, args=rest, prog=f"asma {name}", **default))
    except (ValueError, OSError, MissingExtraError) as error:
        print(f"asma: {' '.join(str(error).split())}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("asma: interrupted; the run goes on from its last checkpoint (pretrain: by --resume)", file=sys.stderr)
        return INTERRUPTED
    return 0
