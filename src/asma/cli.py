"""The command ``asma``: one subcommand for each thing to do, its options made from dataclasses.

What a user can get wrong ends in one sentence on stderr and exit status 2, without a traceback.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch

from . import parallel
from .align import AlignConfig, align_probe, make_teacher
from .bench import bench
from .checkpoint import CONFIG_FILE, METRICS_FILE, load_encoder
from .classifier import CLASSIFIER_FILE, count_parameters, load_classifier, save_classifier
from .cli_data import run_data
from .command import USER_ERROR, Command, run_command, usage
from .config import DataConfig, PretrainConfig, need, preset, with_masks
from .config_file import from_dict, load_config, to_dict
from .data import open_clips
from .demo import DemoConfig, run_demo
from .distill import DistillConfig, distill
from .evaluate import ProbeConfig, encode_clips, evaluation_mode, knn, linear_probe
from .export import Format, clips_to_calibrate, export
from .extras import MissingExtraError
from .loop import TerminatedError
from .models import Encoder
from .models.alignment import Mode
from .precision import Precision
from .predict import clip_of_file, predict, predict_of_set
from .prepare import Split, open_split
from .pretrain import pretrain
from .results import markdown
from .scores import Scores, score
from .student import student_sizes
from .table.command import run_table
from .table.config import TableConfig

try:
    from tyro import MISSING
    from tyro.conf import Positional, arg

    Flat = arg(name="")
except ImportError:
    pass  # main says so in one sentence; until then nothing looks at these names

SOME_RUN = "give the folder of at least one finished pretraining run"
INTERRUPTED, TERMINATED = 130, 143


@dataclass(frozen=True)
class Demo:
    """Pretrain both encoders, measure them against an untrained one, and write a table and a report."""

    out: Path = Path("runs/demo")
    """Folder of everything that is made; the same command goes on where an interrupted one stopped."""
    config: Annotated[DemoConfig, Flat] = field(default_factory=DemoConfig)


@dataclass(frozen=True)
class Table:
    """Every protocol for random, PSTL's and ASMa's encoders, over seeds: a Markdown table and a page with plots."""

    out: Path
    """Folder of everything that is made; the same command goes on where an interrupted one stopped."""
    config: Annotated[TableConfig, Flat] = field(default_factory=TableConfig)


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
    """Accuracy of a linear classifier on frozen features; of two encoders, also on both together."""

    runs: Positional[tuple[Path, ...]]
    """Folders of finished pretraining runs, or .safetensors files of encoders."""
    out: Path | None = None
    """With two runs: write the teacher (both encoders, alignment, classifier) into this folder."""
    clips: str = ""
    """Other clips than those of the runs: transfer."""
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
    """Other clips than those of the runs: transfer."""
    protocol: str = ""
    """How they are split; empty for the split of the run, or the usual one of other clips."""


@dataclass(frozen=True)
class Distill:
    """Train a small student to answer as a teacher does."""

    teacher: Positional[Path]
    """Folder of the teacher that probe --out wrote."""
    out: Path
    """The run's folder: config.json, metrics.jsonl, checkpoint.pt and, at the end, classifier.safetensors."""
    labels: bool = True
    """Learn from the labels of the training clips too, not from the teacher alone."""
    resume: bool = False
    """Go on with the run in --out, with its own options."""
    config: Annotated[DistillConfig, Flat] = field(default_factory=DistillConfig)


@dataclass(frozen=True)
class Predict:
    """Name the action in one clip."""

    model: Positional[Path]
    """Folder of a teacher or a student."""
    clips: Positional[str]
    """An .npz file with one clip (T, V, 3); with --clip, a set: "builtin", a store, or an .npz and its .json."""
    clip: str = ""
    """Name of a clip of the set, or its number from 0."""


@dataclass(frozen=True)
class Export:
    """Write a teacher or a student for the edge engine, as ONNX, or as a program of torch.export."""

    model: Positional[Path]
    """Folder of a teacher or a student."""
    out: Path
    """The file."""
    to: Format = "edge"
    """edge: for asma-edge, raw skeletons in; onnx, torch: prepared clips in, plain operators."""
    precision: Precision = "float32"
    """Of what asma-edge multiplies: float32, bfloat16, or int8, whose steps are chosen by clips."""
    clips: str = ""
    """Clips for int8; empty for the training clips of the model."""


@dataclass(frozen=True)
class Bench:
    """Time a pretraining step part by part, against what this machine can do at most; nothing is written."""

    preset: Literal["asma", "pstl", "cpu", "demo"] = "asma"
    """Where the options start from, as of pretrain."""
    steps: int = 5
    """Steps that are timed, after a warm-up."""
    config: Annotated[PretrainConfig, Flat] = field(default_factory=PretrainConfig)


@dataclass(frozen=True)
class Info:
    """Versions and backends, and what a run is."""

    runs: Positional[tuple[Path, ...]] = ()
    """Folders of pretraining runs."""


def demo(options: Demo) -> None:
    results = run_demo(options.config, options.out)
    print(markdown(results) + f"\nreport: {options.out / 'report.html'}")


def table(options: Table) -> None:
    run_table(options.config, options.out)
    print((options.out / "results.md").read_text(encoding="utf-8") + f"\nreport: {options.out / 'report.html'}")


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
    pretrain(options.config, split.prepared, split.train.skeleton, options.out, options.resume, say=print)
    if parallel.first():
        print(f"{options.out}: done, {options.config.optimiser.total_steps(len(split.train))} steps")


class Encoded(NamedTuple):
    """An encoder and its features of the training and the test clips."""

    encoder: Encoder
    data: DataConfig
    split: Split
    features: tuple[torch.Tensor, torch.Tensor]


def encode(run: Path, clips: str, protocol: str) -> Encoded:
    encoder, notes = load_encoder(run)
    data = from_dict(PretrainConfig, notes["pretraining"], f"{run}: its config").data
    if clips or protocol:
        data = replace(data, clips=clips or data.clips, protocol=protocol)
    split = open_split(data, encoder.skeleton)
    train, test = (encode_clips(encoder, x, title=run.name) for x in (split.train_x, split.test_x))
    return Encoded(encoder, data, split, (train, test))


def run_probe(options: Probe) -> None:
    need(bool(options.runs), SOME_RUN, "none")
    need(not options.out or len(options.runs) == 2, "--out needs two runs, encoder 1 and encoder 2", len(options.runs))
    if options.out and (options.out / CLASSIFIER_FILE).exists():
        raise FileExistsError(f"{options.out} holds a teacher already: take another folder")
    made = []
    for run in options.runs:
        made.append(found := encode(run, options.clips, options.protocol))
        train, test, classes = found.split.train, found.split.test, len(found.split.train.classes)
        probe = linear_probe(found.features[0], train.label, found.features[1], test.label, options.config, classes)
        say_scores(str(run), found.split, probe)
    if len(made) != 2:
        return
    first, second = made
    if first.data != second.data:
        raise ValueError("both runs must have the same data options to be put together: pretrain them alike")
    pairs = list(zip(first.features, second.features, strict=True))
    modes: tuple[Mode, ...] = ("mean", "concat", "aligned")
    for mode in modes:
        aligned = align_probe(
            pairs[0], train.label, pairs[1], test.label, AlignConfig(mode=mode), options.config, classes
        )
        say_scores(f"both, {mode}", first.split, aligned)
        if options.out and mode == "aligned":
            teacher = make_teacher([first.encoder, second.encoder], aligned, train.classes, first.data)
            options.out.mkdir(parents=True, exist_ok=True)
            save_classifier(options.out / CLASSIFIER_FILE, teacher, {"top1": aligned.top1})


def run_knn(options: Knn) -> None:
    need(bool(options.runs), SOME_RUN, "none")
    for run in options.runs:
        found = encode(run, options.clips, options.protocol)
        train, test = found.split.train, found.split.test
        share = knn(found.features[0], train.label, found.features[1], test.label, options.k)
        print(f"{run} on {train.title}: {options.k}-NN {100 * share:.1f} %", flush=True)


def say_scores(name: str, split: Split, scores: Scores, what: str = "linear probe") -> None:
    shares = f"{what} {100 * scores.top1:.1f} %, top 5 {100 * scores.top5:.1f} %"
    print(f"{name} on {split.train.title}: {shares}", flush=True)


def start_of_distill(arguments: Sequence[str]) -> Distill:
    """What the options start from: the defaults, or the run that is resumed."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--out", default="")
    parser.add_argument("--resume", action="store_true")
    found, _ = parser.parse_known_args([*arguments, ""])
    if found.resume and found.out:
        return Distill(MISSING, MISSING, resume=True, config=load_config(Path(found.out) / CONFIG_FILE, DistillConfig))
    return Distill(MISSING, MISSING)


def run_distill(options: Distill) -> None:
    teacher, _ = load_classifier(options.teacher)
    split = open_split(teacher.data)
    labels = split.train.label if options.labels else None
    student = distill(teacher, split.train_x, options.config, options.out, options.resume, labels)
    which, _ = student_sizes(teacher, options.config)
    for name, model in (("teacher", teacher), (f"student {which}", student)):
        with evaluation_mode(model):
            scores = score(model(split.test_x).softmax(dim=1), split.test.label)
        say_scores(f"{name} ({count_parameters(model):,} parameters)", split, scores, "accuracy")


def run_predict(options: Predict) -> None:
    model, _ = load_classifier(options.model)
    if options.clip:
        print(predict_of_set(model, open_clips(options.clips), options.clip))
    else:
        print(predict(model, clip_of_file(options.clips)))


def run_export(options: Export) -> None:
    model, _ = load_classifier(options.model)
    clips = clips_to_calibrate(model, options.clips) if options.precision == "int8" else None
    size = export(model, options.to, options.out, options.precision, clips)
    form = options.to if options.precision == "float32" else f"{options.to}, {options.precision}"
    print(f"{options.out}: {size:,} bytes, {form}, {count_parameters(model):,} parameters")


def start_of_bench(arguments: Sequence[str]) -> Bench:
    """What the options start from: a preset."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", default="asma")
    found, _ = parser.parse_known_args([*arguments, ""])
    return Bench(found.preset, config=preset(found.preset))


def run_bench(options: Bench) -> None:
    split = open_split(options.config.data)
    print(bench(options.config, split.prepared, split.train.skeleton, options.steps).table())


def info(options: Info) -> None:
    from asma_kernels import env

    print(env.report())
    for run in options.runs:
        config = json.dumps(to_dict(load_config(run / CONFIG_FILE, PretrainConfig)), indent=2)
        metrics = run / METRICS_FILE
        lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
        print(f"\n{run}: {config}\nlast metrics: {lines[-1] if lines else 'none yet'}")


COMMANDS: dict[str, Command | str] = {
    "demo": Command(Demo, demo),
    "table": Command(Table, table),
    "pretrain": Command(Pretrain, run_pretrain, start_of_pretrain),
    "probe": Command(Probe, run_probe),
    "knn": Command(Knn, run_knn),
    "distill": Command(Distill, run_distill, start_of_distill),
    "predict": Command(Predict, run_predict),
    "export": Command(Export, run_export),
    "data": "What is done to sets of clips; asma data --help lists it.",
    "bench": Command(Bench, run_bench, start_of_bench),
    "info": Command(Info, info),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(usage("asma", COMMANDS))
        return 0 if given else USER_ERROR
    try:
        if given[0] == "data":
            return run_data(given[1:])
        return run_command("asma", COMMANDS, given)
    except (ValueError, OSError, MissingExtraError) as error:
        print(f"asma: {' '.join(str(error).split())}", file=sys.stderr)
        return USER_ERROR
    except TerminatedError as error:
        print(f"asma: {error}", file=sys.stderr)
        return TERMINATED
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        reason = (str(error).splitlines() or ["none is left"])[0]
        advice = "lower optimiser.batch, data.frames or projector.width, or take --recompute or --bfloat16"
        print(f"asma: out of memory ({reason}): {advice}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print(
            "asma: interrupted; the same command goes on from what is done (pretrain: with --resume)", file=sys.stderr
        )
        return INTERRUPTED


def _out_of_memory(error: Exception) -> bool:
    """Of a device, of Python, or of PyTorch's allocator on the CPU, which has no class of its own for it."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
