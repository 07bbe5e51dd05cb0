"""From what every seed gave to means, deviations, intervals, and differences between rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from asma.comparison import ALIGNED, ENCODERS, RANDOM, RANDOM_ALIGNED
from asma.extras import extra

from .parts import PARTS, PER_CLIP, PSTL_ALIGNED, SIDES, Measurement

__all__ = ["cell", "differences", "interval", "sections"]

COVERAGE = 0.95
_SHARED, _OF_EACH = list(PER_CLIP)[4:]
_ASYMMETRIC, _BOTH_SIDES, _TWICE_PSTL, _TWICE_FIRST = list(SIDES)[4:]
CLAIMS = (
    ("pretraining helps", "frozen", ENCODERS["e1"], RANDOM),
    ("encoder 1's masks are better than PSTL's", "frozen", ENCODERS["e1"], ENCODERS["pstl"]),
    ("encoder 2's masks are better than PSTL's", "frozen", ENCODERS["e2"], ENCODERS["pstl"]),
    ("two asymmetric encoders are better than two of PSTL's, both aligned", "frozen", ALIGNED, PSTL_ALIGNED),
    ("alignment is better than concatenation", "frozen", ALIGNED, "concatenation"),
    ("pretraining helps the aligned pair", "frozen", ALIGNED, RANDOM_ALIGNED),
    ("masks of each clip are better than of the batch, aligned pair", "per-clip", _OF_EACH, _SHARED),
    ("encoders 1 and 2 are better together than high-high and low-low", "sides", _ASYMMETRIC, _BOTH_SIDES),
    ("encoders 1 and 2 are better together than encoder 1 twice", "sides", _ASYMMETRIC, _TWICE_FIRST),
    ("the same features do better on clips of another set than random ones", "transfer", ENCODERS["e1"], RANDOM),
)
"""In words, and the rows whose linear probe (top 1) is to differ."""


def interval(values: Sequence[float]) -> float | None:
    """Half the width of the 95 % confidence interval of the mean, by Student's t; None for a single value.

    >>> round(interval([0.5, 0.6, 0.7]), 4)
    0.2484
    """
    if len(values) < 2:
        return None
    quantile = extra("scipy.stats").t.ppf((1 + COVERAGE) / 2, len(values) - 1)
    return float(quantile) * statistics.stdev(values) / math.sqrt(len(values))


def cell(seeds: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Mean over seeds and draws, deviation over all of them, and the interval over the seeds' means.

    Draws of one seed share its encoders, so they do not count as repetitions of it.
    """
    every = [value for draws in seeds for value in draws]
    means = [statistics.mean(draws) for draws in seeds]
    return {
        "mean": statistics.mean(means),
        "deviation": statistics.stdev(every) if len(every) > 1 else None,
        "interval": interval(means),
        "seeds": [list(draws) for draws in seeds],
    }


def sections(found: dict[str, list[Measurement]]) -> dict[str, dict[str, Any]]:
    """Part -> title, note, headings, and row -> column -> cell. `found`: part -> what each seed gave."""
    out = {}
    for part, seeds in found.items():
        plan = PARTS[part]  # type: ignore[index]
        rows = {
            row: {column: cell([seed.rows[row][column] for seed in seeds]) for column in columns}
            for row, columns in seeds[0].rows.items()
        }
        out[part] = {"title": plan.title, "note": plan.note, "columns": plan.columns, "rows": rows}
    return out


def differences(made: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What the rows say of each claim: the difference seed by seed, its mean and interval, where the rows are there."""
    out = []
    for claim, part, better, worse in CLAIMS:
        if part not in made:
            continue
        rows = made[part]["rows"]
        one, other = ([statistics.mean(draws) for draws in rows[row]["top1"]["seeds"]] for row in (better, worse))
        each = [a - b for a, b in zip(one, other, strict=True)]
        width = interval(each)
        mean = statistics.mean(each)
        shown, refuted = width is not None and mean > width, width is not None and mean < -width
        names = {"claim": claim, "part": part, "rows": [better, worse]}
        out.append(names | {"mean": mean, "interval": width, "shown": shown, "refuted": refuted})
    return out
