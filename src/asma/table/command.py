"""`asma table`: does what is not done yet, and writes the table as it grows."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from asma.checkpoint import METRICS_FILE, load_checkpoint, save_checkpoint, versions
from asma.config_file import difference, from_dict, to_dict
from asma.extras import extra
from asma.files import write_text
from asma.results import device_name
from asma.scores import score

from .config import Part, TableConfig
from .page import markdown, page
from .parts import PARTS, Measurement
from .summary import differences, sections
from .work import Splits, Work

__all__ = ["run_table"]

TABLE_FILE, RESULTS_FILE, MARKDOWN_FILE, PAGE_FILE = "table.json", "results.json", "results.md", "report.html"
KIND = "part of a table"
SHOWN_BY_CLASS = ("random encoder", "PSTL's masks", "aligned")
GROWS = ("seeds", "parts", "transfer", "transfer_protocol")
"""Options that may be others when a table is gone on with: what is there stays right."""


def run_table(config: TableConfig, folder: Path, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Do what is not done yet, write results.json, results.md and report.html, and return the results.

    Every pretraining, fine-tuning and part of a seed is a file of the folder, so the same command goes on where an
    interrupted one stopped, and further seeds and parts can be asked for later. All are written anew after each seed.

    Raises:
        ValueError: the folder holds another table, or data and config do not fit.
        FileNotFoundError: the clips are not there.
        MissingExtraError: a package that the end needs is not installed.
    """
    for module in ("safetensors", "matplotlib", "sklearn", "scipy"):
        extra(module)  # rather now than after hours
    splits = Splits(config)
    begin(config, folder, splits)
    split = splits.own()
    sizes = f"{len(split.train)} training and {len(split.test)} test clips, {len(split.train.classes)} classes"
    say(f"{split.train.title}: {sizes}")
    found: dict[str, list[Measurement]] = {part: [] for part in config.parts}
    results: dict[str, Any] = {}
    for place, seed in enumerate(config.seeds):
        work = Work(config, seed, splits, folder / f"seed{seed}", say)
        for part in config.parts:
            found[part].append(measured(part, work))
        results = collected(config, splits, found, config.seeds[: place + 1], folder)
        write_text(folder / RESULTS_FILE, json.dumps(results, indent=2) + "\n")
        write_text(folder / MARKDOWN_FILE, markdown(results))
        write_text(folder / PAGE_FILE, page(results, scores_of(found, split.test.label)))
    return results


def begin(config: TableConfig, folder: Path, splits: Splits) -> None:
    """Make the folder, or see that it holds this very table, of the same clips."""
    file = folder / TABLE_FILE
    split = splits.own()
    clips = [split.train.checksum(), split.test.checksum()]
    if file.exists():
        saved = json.loads(file.read_text(encoding="utf-8"))
        old = {name: value for name, value in to_dict(from_dict(TableConfig, saved["config"], str(file))).items()}
        wanted = to_dict(config)
        fixed = {name: value for name, value in old.items() if name not in GROWS}
        other = difference(fixed, wanted)
        if old["transfer"] and config.transfer and old["transfer"] != config.transfer:
            other = other or f"transfer ({old['transfer']}, not {config.transfer})"
        if other:
            raise ValueError(f"{folder} holds a table with another {other}: take another folder by --out")
        if saved["clips"] != clips:
            raise ValueError(f"{folder} holds a table of other clips than {config.data} has now: take another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps({"config": to_dict(config), "clips": clips}, indent=2) + "\n")


def measured(part: Part, work: Work) -> Measurement:
    """A part of a seed, from its file where it is done."""
    file = work.folder / f"{part}.pt"
    if not file.exists():
        work.say(f"seed {work.seed}: {PARTS[part].title.lower()}")
        found = PARTS[part].measure(work)
        file.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(file, KIND, {"rows": found.rows, "probabilities": found.probabilities})
    held = load_checkpoint(file, KIND)
    return Measurement(held["rows"], held["probabilities"])


def collected(
    config: TableConfig, splits: Splits, found: dict[str, list[Measurement]], seeds: tuple[int, ...], folder: Path
) -> dict[str, Any]:
    """What results.json holds, of the seeds that are done."""
    split = splits.own()
    made = sections(found)
    scores = scores_of(found, split.test.label)
    title = f"{split.train.title}: PSTL, ASMa and random encoders"
    return {
        "title": title if "transfer" not in config.parts else f"{title}, and on {splits.transfer.train.title}",
        "train_clips": len(split.train),
        "test_clips": len(split.test),
        "classes": list(split.test.classes),
        "config": to_dict(config) | {"seeds": list(seeds)},
        "sections": made,
        "differences": differences(made),
        "per_class": {row: _plain(each.per_class) for row, each in scores.items()},
        "training_seconds": round(sum(training_seconds(folder / f"seed{seed}") for seed in seeds), 1),
        "command": shlex.join(["asma", *sys.argv[1:]]),
        "device": device_name(),
        "versions": versions(),
    }


def scores_of(found: dict[str, list[Measurement]], truth: Any) -> dict[str, Any]:
    """Of the rows that are shown class by class, over the clips of all seeds together."""
    seeds = found.get("frozen", [])
    shown = [row for row in SHOWN_BY_CLASS if seeds and row in seeds[0].probabilities]
    labels = torch.as_tensor(truth).repeat(len(seeds))
    return {row: score(torch.cat([seed.probabilities[row] for seed in seeds]), labels) for row in shown}


def training_seconds(folder: Path) -> float:
    """Of all runs of a seed, over all calls that they took."""
    logs = sorted(folder.rglob(METRICS_FILE))
    return float(sum(json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["seconds"] for log in logs))


def _plain(shares: Any) -> list[float | None]:
    return [None if share != share else float(share) for share in shares]
