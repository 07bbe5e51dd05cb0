"""Small charts and skeletons as SVG elements, drawn in the colours of the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_COLUMNS", "bars", "columns", "histogram", "skeleton"]

WIDTH, HEIGHT, FLOOR, TOP = 520, 190, 34, 20
MOST_NUMBERS = 14
"""Columns above which their numbers would touch."""
MOST_COLUMNS = 60
"""Numbers of subjects or views above which they are counted in ranges."""
THUMBNAIL = 150
PERSONS = 4
"""Colours of persons in the page's style."""


def histogram(values: NDArray[np.int64], title: str, unit: str) -> str:
    """How many clips have which length: at most 40 columns of equal width."""
    low, high = int(values.min()), int(values.max())
    width = max(1, -(-(high - low + 1) // 40))
    first = low // width * width
    counts = np.bincount((values - first) // width)
    names = [f"{first + i * width}" if width == 1 else f"{first + i * width}–{first + (i + 1) * width - 1}"
             for i in range(len(counts))]  # fmt: skip
    every = max(1, len(counts) // 6)
    ticks = [f"{first + i * width}" if i % every == 0 else "" for i in range(len(counts))]
    return _columns(counts.tolist(), names, ticks, title, unit)


def columns(counts: Sequence[int], names: Sequence[str], title: str, unit: str) -> str:
    """A column for each name; where they are many, some have their name below."""
    every = 1 if len(names) <= 16 and max(map(len, names)) * len(names) < 60 else -(-len(names) // 8)
    ticks = [name if i % every == 0 else "" for i, name in enumerate(names)]
    return _columns(list(counts), list(names), ticks, title, unit)


def bars(counts: Sequence[int], names: Sequence[str], title: str) -> str:
    """A row for each name, for names that are words; in two columns where there are many."""
    lines = -(-len(names) // 2) if len(names) > 14 else len(names)
    row, middle, wide = 22, 190, 2 * WIDTH if len(names) > 14 else WIDTH
    most = max(max(counts), 1)
    parts = []
    for i, (count, name) in enumerate(zip(counts, names, strict=True)):
        x, y = (i // lines) * WIDTH, (i % lines) * row
        length = (WIDTH - middle - 60) * count / most
        short = name if len(name) <= 26 else name[:25] + "…"
        parts.append(
            f"<g><title>{escape(name)}: {count:,}</title>"
            f'<text x="{x + middle - 10}" y="{y + 15}" text-anchor="end">{escape(short)}</text>'
            f'<rect class="bar" x="{x + middle}" y="{y + 4}" width="{max(length, 1):.1f}" height="14" rx="2"/>'
            f'<text class="number" x="{x + middle + length + 7:.1f}" y="{y + 15}">{count:,}</text></g>'
        )
    return _svg(wide, lines * row + 4, title, "".join(parts))


def skeleton(
    now: NDArray[np.float32], edges: Sequence[tuple[int, int]], marked: set[tuple[int, int]],
    before: NDArray[np.float32] | None = None, title: str = "",
) -> str:  # fmt: skip
    """Bodies of one frame, (M, V, 2) on paper with NaN for what is not there; marked are (person, joint).

    `before` is drawn pale behind: the frame before, to show a jump.
    """
    known = np.concatenate([pose.reshape(-1, 2) for pose in (now, before) if pose is not None])
    known = known[np.isfinite(known).all(1)]
    if not len(known):
        return _svg(THUMBNAIL, THUMBNAIL, title, '<text x="75" y="79" text-anchor="middle">nothing to draw</text>')
    low, high = known.min(0), known.max(0)
    scale = (THUMBNAIL - 24) / max(float((high - low).max()), 1e-9)
    shift = THUMBNAIL / 2 - (low + high) / 2 * scale
    parts = []
    for pose, kind in ((before, "before"), (now, "now")):
        for person in range(0 if pose is None else len(pose)):
            assert pose is not None
            parts.append(_body(pose[person] * scale + shift, edges, person, kind, marked))
    return _svg(THUMBNAIL, THUMBNAIL, title, "".join(parts))


def _body(
    pose: NDArray[np.float32], edges: Sequence[tuple[int, int]], person: int, kind: str, marked: set[tuple[int, int]]
) -> str:
    there = np.asarray(np.isfinite(pose).all(1))
    lines = "".join(
        f"M{pose[a, 0]:.1f} {pose[a, 1]:.1f}L{pose[b, 0]:.1f} {pose[b, 1]:.1f}"
        for a, b in edges
        if there[a] and there[b]
    )
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.7"/>' for x, y in pose[there])
    rings = "".join(
        f'<circle class="mark" cx="{pose[joint, 0]:.1f}" cy="{pose[joint, 1]:.1f}" r="5.5"/>'
        for owner, joint in sorted(marked)
        if owner == person and kind == "now" and there[joint]
    )
    return f'<g class="body {kind} p{person % PERSONS}"><path d="{lines}"/>{dots}{rings}</g>'


def _columns(counts: list[int], names: list[str], ticks: list[str], title: str, unit: str) -> str:
    most = max(max(counts), 1)
    step = (WIDTH - 12) / len(counts)
    parts = [f'<line class="axis" x1="0" x2="{WIDTH}" y1="{HEIGHT - FLOOR + 0.5}" y2="{HEIGHT - FLOOR + 0.5}"/>']
    for i, (count, name, tick) in enumerate(zip(counts, names, ticks, strict=True)):
        height = (HEIGHT - FLOOR - TOP) * count / most
        x, y = 6 + i * step, HEIGHT - FLOOR - height
        middle = x + step / 2
        wide = min(step * 0.82, 56)
        parts.append(
            f"<g><title>{escape(name)} {escape(unit)}: {count:,} clips</title>"
            f'<rect class="bar" x="{middle - wide / 2:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{height:.1f}"/>'
        )
        if len(counts) <= MOST_NUMBERS:
            parts.append(f'<text class="number" x="{middle:.1f}" y="{y - 5:.1f}" text-anchor="middle">{count:,}</text>')
        if tick:
            parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - FLOOR + 16}" text-anchor="middle">{escape(tick)}</text>')
        parts.append("</g>")
    parts.append(f'<text class="unit" x="{WIDTH - 6}" y="{HEIGHT - 3}" text-anchor="end">{escape(unit)}</text>')
    return _svg(WIDTH, HEIGHT, title, "".join(parts))


def _svg(width: int, height: int, title: str, content: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}" style="max-width:{width}px">'
        f"{content}</svg>"
    )
