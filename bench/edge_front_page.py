"""The accuracy-latency front of students as a table and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asma.plots import FAINT, MARKERS, MUTED, PALETTE
from asma.student import STUDENTS

Found = dict[str, Any]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def preset_of(design: Found) -> str:
    """Its name as a preset, or nothing."""
    sizes = tuple(design["channels"]), tuple(design["strides"]), design["kernel"]
    return next((name for name, each in STUDENTS.items() if tuple(each) == sizes), "")


def front(points: dict[str, tuple[float, float]]) -> list[str]:
    """Names of the points (milliseconds, accuracy) that no faster one equals in accuracy, the fastest first.

    >>> front({"slow": (3, 0.9), "fast": (1, 0.8), "worse": (2, 0.7), "as good": (4, 0.9)})
    ['fast', 'slow']
    """
    best, found = -1.0, []
    for name, (_, accuracy) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if accuracy > best:
            best = accuracy
            found.append(name)
    return found


def points_of(results: Found, place: str) -> dict[str, tuple[float, float]]:
    return {
        name: (student["engine_ms"], mean(student["top1"]))
        for name, design in results["designs"].items()
        if (student := design["students"].get(place))
    }


def markdown(results: Found) -> str:
    """Every design on every set, then what each loss is worth."""
    places = list(results["teachers"])
    lines = [
        f"# Students by size on {results['facts']['device']}",
        "",
        f"`{results['command']}`, {results['date']}; torch {results['facts']['torch']}. Milliseconds of the "
        "processor's time for one prepared clip by the edge engine on one thread, float32, medians of designs side by "
        f"side. Accuracy on the test clips in percent after {results['steps']} steps of distillation with labels, on "
        "one teacher of each set; where it says so, the mean over the student's seeds. In bold: on the front, nothing "
        "that is faster is as accurate.",
        "",
        f"| design | preset | {' | '.join(f'{place} %, ms' for place in places)} | parameters | file, kB |",
        "|---|---|" + "---|" * (len(places) + 2),
    ]
    fronts = {place: front(points_of(results, place)) for place in places}
    for name, design in results["designs"].items():
        cells = [_cell(design["students"].get(place), name in fronts[place]) for place in places]
        sizes = {place: student for place, student in design["students"].items()}
        parameters = _range([student["parameters"] for student in sizes.values()])
        size = _range([round(student["bytes"] / 1e3) for student in sizes.values()])
        lines.append(f"| {name} | {preset_of(design)} | {' | '.join(cells)} | {parameters} | {size} |")
    teachers = [f"{100 * each['top1']:.1f}, {each['engine_ms']:.2f}" for each in results["teachers"].values()]
    whole = _range([each["parameters"] for each in results["teachers"].values()])
    size = _range([round(each["bytes"] / 1e3) for each in results["teachers"].values()])
    lines.append(f"| teacher | | {' | '.join(teachers)} | {whole} | {size} |")
    if results["losses"]:
        lines += [
            "",
            f"What each part of the loss is worth, design `{results['losses_of']}`, accuracy in percent:",
            "",
            f"| loss | {' | '.join(places)} |",
            "|---|" + "---|" * len(places),
        ]
        for name, found in results["losses"].items():
            lines.append(f"| {name} | {' | '.join(_share(found.get(place, [])) for place in places)} |")
    return "\n".join(lines) + "\n"


def _cell(student: Found | None, bold: bool) -> str:
    if student is None:
        return "too large"
    text = f"{_share(student['top1'])}, {student['engine_ms']:.3f}"
    return f"**{text}**" if bold else text


def _share(values: list[float]) -> str:
    if not values:
        return ""
    text = f"{100 * mean(values):.1f}"
    return (
        text
        if len(values) == 1
        else f"{text} ({len(values)} seeds, {100 * min(values):.1f} to {100 * max(values):.1f})"
    )


def _range(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def chart(results: Found, path: Path) -> None:
    """Accuracy over milliseconds, a panel for each set; the front as a line, the teacher's accuracy as another."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    places = list(results["teachers"])
    figure, panels = pyplot.subplots(
        1, len(places), figsize=(4.4 * len(places), 5), layout="constrained", squeeze=False
    )
    for axes, place in zip(panels[0], places, strict=True):
        teacher, points = results["teachers"][place], points_of(results, place)
        line = [points[name] for name in front(points)]
        axes.step([x for x, _ in line], [100 * y for _, y in line], where="post", color=FAINT, linewidth=2, zorder=1)
        axes.axhline(100 * teacher["top1"], color=MUTED, linewidth=1, linestyle="--", zorder=1)
        axes.annotate(
            f"teacher, {teacher['engine_ms']:.2f} ms", (0, 100 * teacher["top1"]), (4, 3), ha="left", va="bottom",
            xycoords=axes.get_yaxis_transform(), textcoords="offset points", fontsize=8, color=MUTED,
        )  # fmt: skip
        for number, (name, design) in enumerate(results["designs"].items()):
            if name not in points:
                continue
            preset, colour = preset_of(design), PALETTE[number % len(PALETTE)]
            milliseconds, accuracy = points[name][0], 100 * points[name][1]
            said = "the teacher's blocks, narrowed" if name == "narrow" else name
            marker = MARKERS[(number + number // len(PALETTE)) % len(MARKERS)]  # no pair of both comes twice
            axes.scatter(
                milliseconds, accuracy, s=110 if preset else 45, color=colour, zorder=3, marker=marker,
                label=f"{said} ({preset})" if preset else said,
            )  # fmt: skip
            seeds = [100 * each for each in design["students"][place]["top1"]]
            axes.plot([milliseconds] * 2, [min(seeds), max(seeds)], color=colour, linewidth=1.5, zorder=2)
            if preset:
                place_of_text = (milliseconds, accuracy), (0, -9)
                axes.annotate(preset, *place_of_text, textcoords="offset points", ha="center", va="top", fontsize=9)
        axes.set_xscale("log")
        axes.margins(x=0.12, y=0.14)
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.set_title(f"{place} ({teacher['clips']} test clips)", fontsize=10)
        axes.set_xlabel(f"ms for {teacher['frames']} frames of {teacher['joints']} joints (log scale)")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("accuracy, %")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False, title_fontsize=8,
        title="channels / strides / taps of the blocks; the grey line is the front, upright ones are seeds",
    )  # fmt: skip
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
