"""The accuracy-latency front of students as a table and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asma.student import STUDENTS

Found = dict[str, Any]
PRESET_COLOURS = {"nano": "#0072b2", "small": "#009e73", "base": "#d55e00"}


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
    """Accuracy over milliseconds, a panel for each set; the front as a line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    places = list(results["teachers"])
    figure, panels = pyplot.subplots(
        1, len(places), figsize=(4.6 * len(places), 4.6), layout="constrained", squeeze=False
    )
    for axes, place in zip(panels[0], places, strict=True):
        teacher, points = results["teachers"][place], points_of(results, place)
        line = [points[name] for name in front(points)]
        axes.step(*zip(*line, strict=True), where="post", color="#b9c2cc", linewidth=2, zorder=1)
        for name, (milliseconds, accuracy) in points.items():
            design = results["designs"][name]
            preset = preset_of(design)
            colour = PRESET_COLOURS.get(preset, "#5f6b7a")
            axes.scatter(milliseconds, 100 * accuracy, s=70 if preset else 28, color=colour, zorder=3)
            said = f"{preset}\n" if preset else ""
            label = said + ("teacher's blocks" if name == "narrow" else "-".join(map(str, design["channels"])))
            axes.annotate(
                label, (milliseconds, 100 * accuracy), (0, -6), textcoords="offset points", ha="center", va="top",
                fontsize=8 if preset else 6.5, color=colour, zorder=2,
            )  # fmt: skip
            spread = [100 * each for each in design["students"][place]["top1"]]
            axes.plot([milliseconds] * 2, [min(spread), max(spread)], color=colour, linewidth=1)
        axes.scatter(teacher["engine_ms"], 100 * teacher["top1"], marker="*", s=110, color="#1f2933", zorder=3)
        axes.annotate(
            "teacher", (teacher["engine_ms"], 100 * teacher["top1"]), (0, -9), textcoords="offset points", ha="center",
            va="top", fontsize=8,
        )  # fmt: skip
        axes.set_xscale("log")
        axes.margins(x=0.12, y=0.14)
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.set_title(f"{place} ({teacher['clips']} test clips)", fontsize=10)
        axes.set_xlabel(f"ms of one thread for {teacher['frames']} frames of {teacher['joints']} joints (log scale)")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("accuracy, %")
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
