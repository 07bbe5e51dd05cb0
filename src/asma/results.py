"""What a demo found, as a table, as JSON and as a page."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

MEASURES = {"top1": "linear probe", "top5": "top 5", "knn": "1-NN"}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean of the seeds' rows, and their standard deviation where there are several.

    >>> summary([{"top1": 0.5, "top5": 1.0, "knn": 0.25}])
    {'top1': 0.5, 'top5': 1.0, 'knn': 0.25}
    """
    found: dict[str, Any] = {}
    for measure in MEASURES:
        values = [row[measure] for row in rows]
        found[measure] = statistics.mean(values)
        if len(values) > 1:
            found[f"{measure}_deviation"] = statistics.stdev(values)
    return found


def markdown(results: dict[str, Any]) -> str:
    """The table, and under it everything that is needed to make it again."""

    def cell(row: dict[str, Any], measure: str) -> str:
        deviation = row.get(f"{measure}_deviation")
        return f"{100 * row[measure]:.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}")

    lines = [f"| % of {results['test_clips']} test clips | {' | '.join(MEASURES.values())} |", "|---|---|---|---|"]
    for name, row in results["rows"].items():
        lines.append(f"| {name} | {' | '.join(cell(row, measure) for measure in MEASURES)} |")
    for model in results["models"]:
        time = f"{model['milliseconds']:.2f} ms for a clip on one thread"
        lines.append(f"\n{model['name']}: {model['parameters']:,} parameters, {time}.")
    used = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    seeds = ", ".join(map(str, results["config"]["seeds"]))
    lines += [
        "",
        f"{results['data']}, {results['train_clips']} training clips, seeds {seeds}. `{results['command']}`: "
        f"{results['seconds']:.0f} s on {results['device']}, training alone {results['training_seconds']:.0f} s "
        f"over all calls; {used}.",
        "",
    ]
    return "\n".join(lines)


def device_name() -> str:
    """The processor and the threads that PyTorch takes."""
    name = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        models = [line for line in facts.read_text().splitlines() if line.startswith("model name")]
        name = models[0].split(":", 1)[1].strip() if models else name
    return f"{name}, {torch.get_num_threads()} threads"
