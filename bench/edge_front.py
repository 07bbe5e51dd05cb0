"""`python -m bench.edge_front --teacher NAME=FOLDER ... --runs FOLDER`: accuracy against milliseconds of students.

Each teacher (a folder of `asma probe --out`, or a seed's folder of `asma demo`) is distilled to every design below, on
the clips that it was trained on; then the edge engine takes a prepared test clip on one thread, all designs side by
side. Writes bench/results/<device>-edge-front.json, .md and .png. The same command goes on where an interrupted one
stopped, and trains only what is new.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests")]

import torch  # noqa: E402
from edge_engine import Engine, build  # noqa: E402

from asma.classifier import CLASSIFIER_FILE, Classifier, count_parameters, load_classifier  # noqa: E402
from asma.distill import DistillConfig, distill  # noqa: E402
from asma.edge_file import edge_bytes  # noqa: E402
from asma.evaluate import evaluation_mode  # noqa: E402
from asma.prepare import Split, open_split  # noqa: E402
from asma.scores import score  # noqa: E402
from asma.student import STUDENTS, Sizes  # noqa: E402

from . import machine  # noqa: E402
from .edge import NEAR, Work, side_by_side  # noqa: E402
from .edge_front_page import chart, markdown, preset_of  # noqa: E402

NARROW = "narrow"
SEARCHED = (
    Sizes((16, 32, 48), (2, 2, 2), 9),
    Sizes((16, 32, 64), (2, 2, 2), 7),
    Sizes((16, 64), (4, 2), 9),
    Sizes((16, 32, 48), (4, 2, 1), 9),
    Sizes((8, 16, 32), (4, 2, 1), 9),
    Sizes((16, 32), (4, 2), 9),
    Sizes((16, 32, 64), (4, 2, 1), 7),
    Sizes((8, 16), (4, 2), 9),
)
LOSSES: dict[str, tuple[dict[str, float], bool]] = {
    "labels, logits, features, relations": ({"relation": 10.0}, True),
    "logits, features, without labels": ({}, False),
}
"""Name -> changes of the default weights, and whether labels are there; of the base preset."""
DEFAULT = "labels, logits, features (default)"


def name_of(sizes: Sizes) -> str:
    """For example "16-32 / 4-2 / 7": channels, strides, taps."""
    return f"{'-'.join(map(str, sizes.channels))} / {'-'.join(map(str, sizes.strides))} / {sizes.kernel}"


DESIGNS: dict[str, Sizes | None] = {NARROW: None, **{name_of(sizes): sizes for sizes in SEARCHED}}
"""Name -> sizes; narrow is the teacher's own blocks, as wide as the limit allows."""


class Place:
    """A teacher, its clips, and the students that it taught."""

    def __init__(self, name: str, teacher: Path, runs: Path, steps: int) -> None:
        self.name, self.folder, self.runs, self.steps = name, teacher, runs / name, steps
        self.teacher, _ = load_classifier(teacher)
        self.split: Split = open_split(self.teacher.data)
        self.represent = self.teacher.represent
        self.teacher.represent = self.remembered  # type: ignore[method-assign]
        self.answers: dict[str, torch.Tensor] = {}
        self.saved = self.runs / "answers.pt"
        if self.saved.exists():
            self.answers = torch.load(self.saved, weights_only=True)

    def remembered(self, x: torch.Tensor) -> torch.Tensor:
        """What the teacher makes of clips. All designs see the same ones where they have the same seed, and the teacher
        would take most of the time."""
        key = hashlib.sha256(x.numpy().tobytes()).hexdigest()
        if key not in self.answers:
            self.answers[key] = self.represent(x)
        return self.answers[key]

    def student(self, sizes: Sizes | None, seed: int, loss: str = DEFAULT) -> Classifier:
        """Trained, or trained on, where it is not done."""
        changes, labels = LOSSES.get(loss, ({}, True))
        own = {} if sizes is None else sizes._asdict()
        config = DistillConfig(student="narrow", seed=seed, bfloat16=True, **own, **changes)
        config = replace(config, optimiser=replace(config.optimiser, steps=self.steps))
        design = NARROW if sizes is None else name_of(sizes).replace(" / ", "_")
        if loss != DEFAULT:
            design += f"_{loss.replace(', ', '-').replace(' ', '-')}"
        folder = self.runs / design / f"seed{seed}"
        if (folder / CLASSIFIER_FILE).exists():
            return load_classifier(folder)[0]
        truth, known = self.split.train.label if labels else None, len(self.answers)
        student = distill(self.teacher, self.split.train_x, config, folder, resume=folder.exists(), labels=truth)
        if len(self.answers) > known:
            torch.save(self.answers, self.saved)
        print(f"{self.name}, {design}, seed {seed}: {100 * self.top1(student):.1f} %", flush=True)
        return student

    def top1(self, model: Classifier) -> float:
        with evaluation_mode(model):
            return score(model(self.split.test_x).softmax(dim=1), self.split.test.label).top1

    def found(self, model: Classifier) -> dict[str, Any]:
        return {"parameters": count_parameters(model), "bytes": len(edge_bytes(model)), "top1": self.top1(model)}


def train(places: list[Place], seeds: int) -> tuple[dict[str, Any], dict[str, dict[str, Classifier]]]:
    """Accuracy of all designs, and the first seed's students by design and place."""
    designs: dict[str, Any] = {}
    models: dict[str, dict[str, Classifier]] = {}
    for name, sizes in DESIGNS.items():
        shown = sizes or Sizes((), (), 0)
        designs[name] = {**shown._asdict(), "students": {}}
        models[name] = {}
        for place in places:
            try:
                first = place.student(sizes, 0)
            except ValueError as error:  # larger than this teacher's student may be
                print(f"{place.name}: {error}", flush=True)
                continue
            models[name][place.name] = first
            others = range(1, seeds if preset_of(designs[name]) or name == NARROW else 1)
            top1 = [place.top1(first), *(place.top1(place.student(sizes, seed)) for seed in others)]
            designs[name]["students"][place.name] = place.found(first) | {"top1": top1}
    return designs, models


def train_losses(places: list[Place], base: dict[str, Any]) -> dict[str, Any]:
    """Accuracy of the base preset by other losses, of as many seeds as there are."""
    found = {DEFAULT: {name: student["top1"][:1] for name, student in base["students"].items()}}
    for loss in LOSSES:
        found[loss] = {place.name: [place.top1(place.student(STUDENTS["base"], 0, loss))] for place in places}
    return found


def milliseconds(
    place: Place, models: dict[str, Classifier], engine: Engine, rounds: int
) -> dict[str, dict[str, float]]:
    """Of the first test clip, by engine and in eager mode."""
    x = place.split.test_x[:1]
    works: dict[str, dict[str, Work]] = {"engine_ms": {}, "eager_ms": {}}
    for name, model in models.items():
        stream = engine.open(edge_bytes(model)).start()
        works["engine_ms"][name] = lambda stream=stream: stream.predict_prepared(x[0].numpy())
        works["eager_ms"][name] = lambda model=model: model(x)
        with torch.inference_mode():
            away = float((torch.from_numpy(works["engine_ms"][name]()) - model(x)[0]).abs().max())
        if not away < NEAR:
            raise SystemExit(f"bench.edge_front: {name} must agree with eager to {NEAR:g}, it differs by {away:g}")
    with torch.inference_mode():
        times = {
            kind: side_by_side(each, rounds if kind == "engine_ms" else max(rounds // 10, 5), time.process_time)
            for kind, each in works.items()
        }
    return {name: {kind: 1e3 * times[kind][name] for kind in works} for name in models}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.edge_front", description="students by size")
    parser.add_argument("--teacher", nargs="+", required=True, metavar="NAME=FOLDER", help="what the plot calls it")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the students' runs")
    parser.add_argument("--steps", type=int, default=600, help="of each distillation, default 600")
    parser.add_argument("--seeds", type=int, default=3, help="students of a preset and of narrow, default 3; else one")
    parser.add_argument("--rounds", type=int, default=300, help="calls of each student, default 300")
    parser.add_argument("--out", type=Path, help="results file, default bench/results/<device>-edge-front.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    named = dict(each.split("=", 1) for each in options.teacher)
    places = [Place(name, Path(folder), options.runs, options.steps) for name, folder in named.items()]
    designs, models = train(places, options.seeds)
    base = name_of(STUDENTS["base"])
    losses = train_losses(places, designs[base])
    engine = Engine(build(ROOT / "build" / "edge-shared", "-DBUILD_SHARED_LIBS=ON") / "csrc/edge/libasma_edge.so")
    teachers = {}
    for place in places:
        these = {name: each[place.name] for name, each in models.items() if place.name in each}
        whole, _ = load_classifier(place.folder)  # one that computes its answers
        times = milliseconds(place, {"teacher": whole, **these}, engine, options.rounds)
        for name in these:
            designs[name]["students"][place.name] |= times[name]
        N, _, T, V, _ = place.split.test_x.shape
        teachers[place.name] = place.found(place.teacher) | times["teacher"] | {"clips": N, "frames": T, "joints": V}
    results = {
        "command": " ".join(["python -m bench.edge_front", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "facts": machine.facts(),
        "steps": options.steps,
        "teachers": teachers,
        "designs": designs,
        "losses_of": base,
        "losses": losses,
    }
    out = options.out or Path(__file__).parent / "results" / f"{machine.device_name()}-edge-front.json"
    out.write_text(json.dumps(results, indent=1) + "\n")
    out.with_suffix(".md").write_text(markdown(results))
    chart(results, out.with_suffix(".png"))
    print(markdown(results))


if __name__ == "__main__":
    main()
