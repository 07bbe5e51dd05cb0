"""Pictures of results as matplotlib figures, in one look and with colours that colour-blind readers tell apart."""

from __future__ import annotations

import base64
import functools
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from .extras import extra

__all__ = [
    "confusion_figure",
    "embedding_figure",
    "inline_image",
    "loss_figure",
    "new_figure",
    "per_class_figure",
    "png",
    "seeds_figure",
    "styled",
]

INK, MUTED, FAINT, BACKGROUND = "#1f2933", "#5f6b7a", "#b9c2cc", "#ffffff"
ENCODER_COLOURS = ("#0072b2", "#d55e00")
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#6a3d9a", "#8a8a8a")
"""Okabe and Ito's colours without the yellow that white swallows, and two that are as far from them."""
MARKERS = "o^sDvPX*"
SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    # Names of classes and runs are taken as they are: "$" begins no formula.
    "text.parse_math": False,
    # The same numbers give the same file.
    "svg.hashsalt": "asma",
    "svg.fonttype": "path",
}
MOST_NUMBERS = 16
"""Classes of a confusion matrix up to which its cells are large enough for numbers."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def styled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Run a function under this module's settings of matplotlib, which are gone afterwards.

    Raises:
        MissingExtraError: when called, if matplotlib is not installed.
    """

    @functools.wraps(function)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with extra("matplotlib").rc_context(SETTINGS):
            return function(*args, **kwargs)

    return run


def new_figure(width: float, height: float) -> Any:
    """An empty figure in inches, without pyplot and its global state."""
    return extra("matplotlib.figure").Figure((width, height), facecolor=BACKGROUND)


@styled
def png(figure: Any, dpi: int = 160) -> bytes:
    """The figure as a PNG file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


@styled
def inline_image(figure: Any, description: str, width: int) -> str:
    """An HTML img that carries the figure in itself, as SVG, `width` pixels wide at most.

    `description` is for those who cannot see it; it must not hold markup.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", pad_inches=0.04, metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{description}" style="max-width:{width}px" src="data:image/svg+xml;base64,{data}">'


@styled
def loss_figure(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], what: str = "loss") -> Any:
    """Losses over steps, one panel a run, because the runs' losses have no common scale.

    Args:
        curves: name -> (steps, losses), of the same length and at least one.
        what: the name of the vertical axis.
    """
    columns = min(len(curves), 3)
    rows = math.ceil(len(curves) / columns)
    figure = new_figure(11, 2.7 * rows + 0.1)
    grid = figure.add_gridspec(rows, columns, left=0.06, right=0.99, bottom=0.18 / rows, top=1 - 0.13 / rows,
                               hspace=0.6, wspace=0.22)  # fmt: skip
    for place, (name, (steps, losses)) in enumerate(curves.items()):
        axes = figure.add_subplot(grid[place // columns, place % columns])
        colour = PALETTE[(0, 4, 2, 3, 6, 7)[place % 6]]
        marker = "o" if len(steps) < 3 else None
        axes.plot(steps, losses, color=colour, linewidth=1.8, marker=marker)
        axes.set_title(name, loc="left", fontsize=11, color=colour, fontweight="bold")
        axes.set_xlabel("step")
        if place % columns == 0:
            axes.set_ylabel(what)
        axes.grid(axis="y", color="#e6eaee", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.annotate(
            f"{losses[-1]:.3g}", (steps[-1], losses[-1]), (0, 7), textcoords="offset points", ha="right", fontsize=9,
            color=colour,
        )  # fmt: skip
    return figure


@styled
def confusion_figure(confusion: NDArray[np.int64], classes: Sequence[str]) -> Any:
    """Which class (row) was taken for which (column), as shares of the row's clips.

    Cells on the diagonal are blue, mistakes are vermilion. Classes without a test clip have an empty row.

    Args:
        confusion: (K, K) counts.
        classes: K names.
    """
    K = len(classes)
    clips = confusion.sum(axis=1, keepdims=True)
    share = confusion / np.maximum(clips, 1)
    right, wrong, paper = np.array([0, 0.447, 0.698]), np.array([0.835, 0.369, 0]), np.ones(3)
    hue = np.where(np.eye(K, dtype=bool)[..., None], right, wrong)
    # The square root shows a single mistake among many clips.
    cells = paper + (hue - paper) * np.sqrt(share)[..., None]
    size = max(5.0, min(9.0, 0.36 * K + 1.6))
    figure = new_figure(size, size)
    axes = figure.add_axes((0.3, 0.28, 0.69, 0.69))
    axes.imshow(cells, interpolation="nearest")
    small = 9.5 if K <= MOST_NUMBERS else max(4.5, 170 / K)
    axes.set_xticks(range(K), classes, rotation=45, ha="right", rotation_mode="anchor", fontsize=small, color=INK)
    axes.set_yticks(range(K), classes, fontsize=small, color=INK)
    axes.set_xticks(np.arange(K + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(K + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#e6eaee", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_xlabel("predicted", fontsize=11)
    axes.set_ylabel("true", fontsize=11)
    if K <= MOST_NUMBERS:
        for row, column in np.argwhere(confusion > 0):
            dark = share[row, column] > 0.45
            axes.text(
                column, row, str(int(confusion[row, column])), ha="center", va="center", fontsize=9,
                color=BACKGROUND if dark else INK,
            )  # fmt: skip
    return figure


@styled
def embedding_figure(
    points: Mapping[str, NDArray[np.float32]], labels: NDArray[np.int64], classes: Sequence[str]
) -> Any:
    """Clips in the plane, a panel for each kind of feature; a class has a colour and a marker of its own.

    Args:
        points: name -> (N, 2).
        labels: (N) in [0, K).
        classes: K names.
    """
    shown = [label for label in range(len(classes)) if (labels == label).any()]
    columns = 4
    lines = math.ceil(len(shown) / columns)
    height, key = 5.1, 0.24 * lines + 0.25
    figure = new_figure(11, height + key)
    grid = figure.add_gridspec(1, len(points), left=0.008, right=0.992, bottom=key / (height + key),
                               top=1 - 0.32 / (height + key), wspace=0.03)  # fmt: skip
    handles = []
    for place, (name, plane) in enumerate(points.items()):
        axes = figure.add_subplot(grid[0, place])
        axes.set_xticks([])
        axes.set_yticks([])
        for side in axes.spines.values():
            side.set_visible(True)
            side.set_color("#d5dbe1")
        axes.set_title(name, fontsize=11.5, loc="left", fontweight="bold")
        handles = [
            axes.scatter(
                *plane[labels == label].T, s=17, color=PALETTE[label % len(PALETTE)], linewidths=0, alpha=0.85,
                marker=MARKERS[label // len(PALETTE) % len(MARKERS)],
            )
            for label in shown
        ]  # fmt: skip
    figure.legend(
        handles, [classes[label] for label in shown], loc="lower center", ncols=min(columns, len(shown)), fontsize=9.5,
        markerscale=1.6, handletextpad=0.2, columnspacing=1.4, borderaxespad=0.0,
    )  # fmt: skip
    return figure


@styled
def per_class_figure(rows: Mapping[str, NDArray[np.float64]], classes: Sequence[str]) -> Any:
    """Share of each class's clips that were recognised, classes in the order of the last row's values.

    Args:
        rows: name -> (K), NaN where a class has no test clip; the last row is the one of interest.
        classes: K names.
    """
    order = np.argsort(np.nan_to_num(list(rows.values())[-1], nan=-1.0), kind="stable")
    figure = new_figure(11, 0.27 * len(classes) + 1.1)
    axes = figure.add_axes((0.24, 0.62 / (0.27 * len(classes) + 1.1), 0.74, 1 - 1.05 / (0.27 * len(classes) + 1.1)))
    values = np.array([row[order] for row in rows.values()])
    heights = np.arange(len(classes))
    present = ~np.isnan(values).all(axis=0)
    low, high = np.nanmin(values[:, present], axis=0), np.nanmax(values[:, present], axis=0)
    axes.hlines(heights[present], low, high, color=FAINT, linewidth=2.4, zorder=1)
    handles = []
    for place in range(len(rows)):
        last = place == len(rows) - 1
        colour = PALETTE[0] if last else (PALETTE[1], PALETTE[3], PALETTE[2], PALETTE[7])[place % 4]
        points = axes.scatter(
            values[place], heights, s=62 if last else 40, color=colour, marker="o" if last else "^sDv"[place % 4],
            zorder=3 if last else 2, linewidths=0,
        )  # fmt: skip
        handles.append(points)
    axes.set_yticks(heights, [classes[label] for label in order], color=INK)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.6, len(classes) - 0.4)
    axes.set_xticks(np.linspace(0, 1, 6), [f"{share:.0f} %" for share in np.linspace(0, 100, 6)])
    axes.grid(axis="x", color="#e6eaee", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    axes.legend(
        handles, list(rows), loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=len(rows), borderaxespad=0.1,
        handletextpad=0.1,
    )  # fmt: skip
    return figure


@styled
def seeds_figure(rows: Mapping[str, Sequence[float]], what: str) -> Any:
    """Every seed of every row as a point on a line of its own, with a bar at their mean.

    Args:
        rows: name -> shares in [0, 1], at least one.
        what: the name of the horizontal axis.
    """
    height = 0.34 * len(rows) + 0.9
    figure = new_figure(11, height)
    axes = figure.add_axes((0.36, 0.58 / height, 0.62, 1 - 0.68 / height))
    heights = np.arange(len(rows))[::-1]
    for place, values in zip(heights, rows.values(), strict=True):
        axes.scatter(values, [place] * len(values), s=34, color=PALETTE[0], alpha=0.7, linewidths=0, zorder=3)
        mean = sum(values) / len(values)
        axes.plot([mean] * 2, [place - 0.3, place + 0.3], color=PALETTE[4], linewidth=2.2, zorder=2)
    axes.set_yticks(heights, list(rows), color=INK)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    axes.margins(x=0.06)
    axes.set_xlabel(what)
    axes.grid(color="#e6eaee", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    return figure
