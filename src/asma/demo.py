"""The main job from end to end: pretrain both encoders, measure what they learnt, distil them, write it all down.

Every finished stage is a file of the demo's folder, so the same command goes on where an interrupted one stopped.
"""

from __future__ import annotations

import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .align import make_teacher
from .checkpoint import METRICS_FILE, load_checkpoint, save_checkpoint, versions
from .classifier import CLASSIFIER_FILE, Classifier, count_parameters, load_classifier, save_classifier
from .comparison import (
    ALIGNED,
    ENCODERS,
    OTHER_SEED,
    RANDOM,
    RANDOM_ALIGNED,
    STUDENT,
    TOGETHER,
    Comparison,
    Pair,
    features_of,
    measure,
    random_encoder,
    student_row,
)
from .config_file import difference, load_config, to_dict
from .distill import distill
from .evaluate import encode_clips, evaluation_mode
from .extras import extra
from .files import write_text
from .mask_picture import mask_clip
from .models import Encoder
from .prepare import Split, open_split
from .pretrain import pretrain
from .report import Model, Results, Row, write_report
from .results import device_name, markdown, summary
from .scores import score

DEMO_FILE = "demo.json"
RESULTS_FILE = "results.json"
TABLE_FILE = "results.md"
SCORES_FILE = "scores.pt"
KIND = "scores of a demo"

NOTES = {
    ALIGNED: "a small network on both encoders' features learns from labels",
    RANDOM_ALIGNED: "how much of that gain is the network's",
    STUDENT: "all of it learns, from labels and from the aligned pair",
}


@dataclass(frozen=True)
class DemoConfig(Comparison):
    """What is compared, and on which clips."""

    compare_pstl: bool = False
    """Pretrain a third encoder, with PSTL's masks."""

    @property
    def encoders(self) -> list[str]:
        return [name for name in ENCODERS if name != "pstl" or self.compare_pstl]


def run_demo(config: DemoConfig, folder: Path, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Do what is not done yet, write results.json, results.md and report.html, and return the results.

    Raises:
        ValueError: the folder holds another demo, or data and config do not fit.
        FileNotFoundError: the clips are not there.
        MissingExtraError: a package that the end needs is not installed.
    """
    begun = time.perf_counter()
    for module in ("safetensors", "matplotlib", "sklearn"):
        extra(module)  # rather now than after minutes
    split = open_split(config.pretraining("e1", config.seeds[0]).data)
    begin(config, folder)
    sizes = f"{len(split.train)} training and {len(split.test)} test clips, {len(split.train.classes)} classes"
    say(f"{split.train.title}: {sizes}")
    seeds = [run_seed(config, seed, split, folder / f"seed{seed}", say) for seed in config.seeds]
    results = {
        "data": split.train.title,
        "train_clips": len(split.train),
        "test_clips": len(split.test),
        "config": to_dict(config),
        "rows": {name: summary([seed.rows[name] for seed in seeds]) for name in seeds[0].rows},
        "models": [cost(name, seeds[0], split.test_x[:1]) for name in (ALIGNED, STUDENT)],
        "seconds": round(time.perf_counter() - begun, 1),
        "training_seconds": round(sum(training_seconds(seed.folder, config) for seed in seeds), 1),
        "command": shlex.join(["asma", *sys.argv[1:]]),
        "device": device_name(),
        "versions": versions(),
    }
    write_text(folder / RESULTS_FILE, json.dumps(results, indent=2) + "\n")
    write_text(folder / TABLE_FILE, markdown(results))
    write_report(folder, page(config, results, seeds[0], split))
    return results


def training_seconds(folder: Path, config: DemoConfig) -> float:
    """Of the encoders and the student of one seed, over all calls that it took."""
    logs = [folder / run / METRICS_FILE for run in (*config.encoders, "student")]
    return float(sum(json.loads(log.read_text().splitlines()[-1])["seconds"] for log in logs))


def begin(config: DemoConfig, folder: Path) -> None:
    """Make the folder, or see that it holds this very demo."""
    file = folder / DEMO_FILE
    if file.exists():
        found = difference(to_dict(load_config(file, DemoConfig)), to_dict(config))
        if found:
            raise ValueError(f"{folder} holds a demo with another {found}: take another folder by --out")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(to_dict(config), indent=2) + "\n")


class Seed(NamedTuple):
    """What one seed gave."""

    folder: Path
    encoders: dict[str, Encoder]
    """Row -> encoder, the random one first."""
    teacher: Classifier
    student: Classifier
    rows: dict[str, dict[str, Any]]
    """Row -> top1, top5, knn, and the probabilities of the test clips."""


def run_seed(config: DemoConfig, seed: int, split: Split, folder: Path, say: Callable[[str], None]) -> Seed:
    """Pretrain, measure and distil, each only where its file is not there."""
    encoders = {RANDOM: random_encoder(config.pretraining("e1", seed), split)}
    for name in config.encoders:
        run = folder / name
        pretraining = config.pretraining(name, seed)
        say(f"seed {seed}: pretraining {ENCODERS[name]}, {pretraining.optimiser.total_steps(len(split.train))} steps")
        encoders[ENCODERS[name]] = pretrain(pretraining, split.train_x, split.train.skeleton, run, resume=run.exists())
    file = folder / SCORES_FILE
    if not file.exists():
        say(f"seed {seed}: linear probe, nearest neighbour, alignment")
        made = {name: features_of(encoder, split) for name, encoder in encoders.items()}
        other = random_encoder(config.pretraining("e2", seed + OTHER_SEED), split)
        both = made[ENCODERS["e1"]], made[ENCODERS["e2"]]
        pairs = {name: Pair(*both, mode) for mode, name in TOGETHER.items()}
        rows, found = measure(split, made, pairs | {RANDOM_ALIGNED: Pair(made[RANDOM], features_of(other, split))})
        pair, aligned = [encoders[ENCODERS[name]] for name in ("e1", "e2")], found[ALIGNED]
        teacher = make_teacher(pair, aligned, split.train.classes, config.pretraining("e1", seed).data)
        save_classifier(folder / CLASSIFIER_FILE, teacher, {"top1": aligned.top1})
        save_checkpoint(file, KIND, {"rows": rows})
    rows = load_checkpoint(file, KIND)["rows"]
    teacher, _ = load_classifier(folder)
    run = folder / "student"
    distilling = config.distillation(seed)
    say(f"seed {seed}: distilling the student, {distilling.optimiser.total_steps(len(split.train))} steps")
    student = distill(teacher, split.train_x, distilling, run, resume=run.exists(), labels=split.train.label)
    rows[STUDENT] = student_row(student, split)
    return Seed(folder, encoders, teacher, student, rows)


def page(config: DemoConfig, results: dict[str, Any], seed: Seed, split: Split) -> Results:
    """What report.html shows; its pictures are those of the first seed."""
    masks = config.pretraining("e1", config.seeds[0]).masks
    clip = split.test_x[0, ..., 0].permute(1, 2, 0).contiguous().numpy()
    shown = (RANDOM, ENCODERS["e1"], ENCODERS["e2"])
    return Results(
        title=f"ASMa on {results['data']}",
        lead=f"Pretrained without labels on {len(split.train)} clips, then probed on {len(split.test)} others.",
        facts={
            "classes": str(len(split.train.classes)),
            "seeds": ", ".join(map(str, config.seeds)),
            "training": f"{results['training_seconds']:.0f} s",
            "device": results["device"],
        },
        rows=[
            Row(name, found["top1"], found["top5"], found["knn"], NOTES.get(name, ""))
            for name, found in results["rows"].items()
        ],
        classes=split.test.classes,
        masked=mask_clip(clip, split.test.skeleton, masks, config.seeds[0], title=str(split.test.name[0])),
        metrics={ENCODERS[name]: seed.folder / name / METRICS_FILE for name in config.encoders}
        | {STUDENT: seed.folder / "student" / METRICS_FILE},
        scores={name: score(seed.rows[name]["probabilities"], split.test.label) for name in (RANDOM, ALIGNED)},
        features={name: encode_clips(seed.encoders[name], split.test_x) for name in shown},
        labels=split.test.label,
        models=[Model(**each, top1=results["rows"][each["name"]]["top1"]) for each in results["models"]],
    )


def cost(name: str, seed: Seed, clip: torch.Tensor) -> dict[str, Any]:
    """Parameters of the teacher or the student, and its time for one clip on one thread."""
    model = seed.teacher if name == ALIGNED else seed.student
    return {"name": name, "parameters": count_parameters(model), "milliseconds": milliseconds(model, clip)}


def milliseconds(model: Classifier, clip: torch.Tensor, runs: int = 30) -> float:
    """The median of some calls on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = []
    with evaluation_mode(model):
        for _ in range(runs):
            begun = time.perf_counter()
            model(clip)
            times.append(time.perf_counter() - begun)
    torch.set_num_threads(threads)
    return round(1000 * statistics.median(times), 3)
