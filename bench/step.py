"""`python -m bench.step`: one pretraining step against PSTL's as it writes it, and where ours goes.

Both train PSTL's encoder and projector with PSTL's masks (preset pstl): ours by its kernels, the peer in eager PyTorch
with masks drawn on the host, einsum and the D x D loss (bench/pstl.py). First a gate: with the same random numbers, and
dropout off, both give the same losses and gradients. Then rounds of one step each, in turn. Writes
bench/results/<device>-step.json and .md, prints the table. It wants an idle machine, 6 GB and about ten minutes.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import asma_kernels as ak
from asma.bench import bench
from asma.config import PRESETS, PretrainConfig
from asma.machine import peak_bytes
from asma.models import Encoder, projector
from asma.pretrain import Pretraining
from asma.views import Views
from asma_kernels import Skeleton

from . import machine, peers, pstl
from .registry import view_arguments

RESULTS = Path(__file__).parent / "results"
SKELETON = Skeleton.builtin("ntu25")
TARGETS = {"ours float32": 3.0, "ours bfloat16": 5.0}
"""Times faster than PSTL's step in float32."""
PEER = "PSTL float32"
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}
"""Of the two losses, relative."""
GRADIENT_TOLERANCE = 1e-2
"""In float32, of each parameter's gradients: their mean difference beside the largest one. A relu whose input is nearly
0 may be on for one side and off for the other, and ten blocks pass that on: 2e-3 was seen in the first block's bias."""
NOTHING_BUT_ROUNDING = ("tcn.2.bias", "residual.0.bias")
"""Gradients of biases that a norm follows."""


def config(dtype: str, batch: int, width: int) -> PretrainConfig:
    base = PRESETS["pstl"]
    return replace(
        base,
        bfloat16=dtype == "bfloat16",
        optimiser=replace(base.optimiser, batch=batch),
        projector=replace(base.projector, width=width),
    )


def check(settings: PretrainConfig, clips: torch.Tensor) -> dict[str, float]:
    """The losses of both on the same clips, parameters and random numbers.

    Raises:
        AssertionError: they, or in float32 the gradients, differ by more than the tolerance.
    """
    settings = replace(settings, encoder=replace(settings.encoder, dropout=0.0))
    run = Pretraining(settings, clips, SKELETON)
    run.encoder.train()
    drawn = pstl.draw(clips.shape[2])
    anchor, spatial, _ = (ak.skeleton_view(clips, *view_arguments(view)) for view in drawn[:3])
    # A crop mirrors frames, and of two of the same motion each side may drop another. So both take the peer's choice;
    # frame_drop has a gate of its own (bench/registry.py).
    temporal = peers.masked_frames(peers.view(clips, *drawn.temporal), settings.masks.frames, drawn.places)
    views = Views(anchor, spatial, torch.tensor(drawn.joints), temporal)
    run.trained.views = lambda given: views  # type: ignore[assignment]
    ours = run.objective(clips)
    theirs = pstl.loss(pstl.projections(clips, drawn, run.encoder, run.projector), settings.projector.lambd)
    dtype = "bfloat16" if settings.bfloat16 else "float32"
    losses = {"ours": float(ours.detach()), "PSTL": float(theirs.detach())}
    assert abs(losses["ours"] / losses["PSTL"] - 1) <= TOLERANCE[dtype], f"{dtype}: losses {losses}"
    if settings.bfloat16:
        return losses
    names, leaves = zip(*run.trained.named_parameters(), strict=True)
    gradients = (torch.autograd.grad(loss, leaves) for loss in (ours, theirs))
    for name, actual, expected in zip(names, *gradients, strict=True):
        if not name.endswith(NOTHING_BUT_ROUNDING):
            error = float((actual - expected).square().mean().sqrt() / expected.abs().max())
            assert error <= GRADIENT_TOLERANCE, f"gradients of {name} differ by {error:.2g}"
    return losses


def providers(clips: torch.Tensor, batch: int, width: int) -> dict[str, Callable[[], Any]]:
    """One step of each."""
    made: dict[str, Callable[[], Any]] = {}
    for dtype in ("float32", "bfloat16"):
        settings = config(dtype, batch, width)
        made[f"PSTL {dtype}"] = peer(settings, clips[:batch])
        run = Pretraining(settings, clips, SKELETON)
        run.encoder.train()
        made[f"ours {dtype}"] = run.train_step
    return made


def peer(settings: PretrainConfig, clips: torch.Tensor) -> Callable[[], None]:
    """PSTL's step on a batch."""
    encoder = Encoder(settings.encoder, SKELETON)
    head = projector(settings.encoder.channels[-1], settings.projector)
    rate, decay = settings.optimiser.lr, settings.optimiser.weight_decay
    adam = torch.optim.Adam([*encoder.parameters(), *head.parameters()], rate, weight_decay=decay)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
            projected = pstl.projections(clips, pstl.draw(clips.shape[2]), encoder, head)
        pstl.learn(pstl.loss([z.float() for z in projected]), adam)

    return step


def measure(threads: int, clips: torch.Tensor, batch: int, width: int, rounds: int) -> list[dict[str, Any]]:
    torch.set_num_threads(threads)
    steps = providers(clips, batch, width)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):  # the first warms up
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - begun)
    rows = []
    for name, step in steps.items():
        peak = peak_bytes(step)
        found = times[name][1:]
        rows.append(
            {"provider": name, "threads": threads, "median": statistics.median(found), "min": min(found),
             "max": max(found), "peak_bytes": peak}
        )  # fmt: skip
    return rows


def markdown(results: dict[str, Any]) -> str:
    facts = results["facts"]
    lines = [
        f"# One pretraining step on {facts['device']}",
        "",
        f"`{results['command']}`, {results['date']}; torch {facts['torch']}, asma-kernels {facts['asma_kernels']}, "
        f"Python {facts['python']}. {results['batch']} clips of two persons, 50 frames, 25 joints; projector "
        f"{results['width']}. Medians of {results['rounds']} steps of each in turn. A gate ran before: "
        + ", ".join(
            f"{dtype} loss {found['ours']:.6g} (PSTL's {found['PSTL']:.6g})" for dtype, found in results["gate"].items()
        )
        + " with the same random numbers.",
        "",
        "| threads | step | seconds | shortest to longest | clips a second | peak MiB | times PSTL float32 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        base = next(
            other for other in results["rows"] if (other["provider"], other["threads"]) == (PEER, row["threads"])
        )
        ratio, target = base["median"] / row["median"], TARGETS.get(row["provider"])
        mark = "" if target is None else f" (>= {target:g}: {'met' if ratio >= target else 'NOT met'})"
        peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:,.0f}"
        lines.append(
            f"| {row['threads']} | {row['provider']} | {row['median']:.2f} | {row['min']:.2f} to {row['max']:.2f} "
            f"| {results['batch'] / row['median']:.1f} | {peak} | {ratio:.2f}x{mark} |"
        )
    lines += ["", "Where ours goes (`asma bench --preset pstl`):"]
    for table in results["parts"]:
        lines += ["", "```", table, "```"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.step", description="one pretraining step against PSTL's")
    parser.add_argument("--threads", default="1 2", help='numbers of threads, default "1 2"')
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=6144, help="of the projector")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="results file, default bench/results/<device>-step.json")
    options = parser.parse_args()
    torch.manual_seed(0)
    random.seed(0)
    clips = torch.randn(2 * options.batch, 3, 50, 25, 2).cumsum(2) * 0.1
    part = clips[: options.batch]
    results: dict[str, Any] = {
        "command": " ".join(["python -m bench.step", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "facts": machine.facts(),
        "batch": options.batch, "width": options.width, "rounds": options.rounds,
        "gate": {
            dtype: check(config(dtype, options.batch, options.width), part) for dtype in ("float32", "bfloat16")
        },
        "rows": [], "parts": [],
    }  # fmt: skip
    for threads in map(int, options.threads.split()):
        results["rows"] += measure(threads, clips, options.batch, options.width, options.rounds)
        for dtype in ("float32", "bfloat16"):
            settings = config(dtype, options.batch, options.width)
            results["parts"].append(bench(settings, clips, SKELETON, options.rounds).table())
    out = options.out or RESULTS / f"{machine.device_name()}-step.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n")
    out.with_suffix(".md").write_text(markdown(results))
    print(markdown(results) + f"written: {out}, {out.with_suffix('.md').name}")


if __name__ == "__main__":
    main()
