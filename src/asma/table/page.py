"""A table as Markdown and as a page with plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from asma import plots
from asma.report import class_by_class, document, section
from asma.scores import Scores

__all__ = ["markdown", "page"]

NOTHING = "–"


def percent(cell: Mapping[str, Any]) -> str:
    """Mean and deviation.

    >>> percent({"mean": 0.5, "deviation": 0.01}), percent({"mean": 1.0, "deviation": None})
    ('50.0 ± 1.0', '100.0')
    """
    return f"{100 * cell['mean']:.1f}" + ("" if cell["deviation"] is None else f" ± {100 * cell['deviation']:.1f}")


def points(value: float | None) -> str:
    """A difference in points, with its sign."""
    return NOTHING if value is None else f"{100 * value:+.1f}"


def verdict(difference: Mapping[str, Any]) -> str:
    """What a difference says."""
    if difference["interval"] is None:
        return "one seed says nothing"
    if difference["shown"]:
        return "yes"
    return "the opposite" if difference["refuted"] else "not shown"


def markdown(results: Mapping[str, Any]) -> str:
    """All sections, and under them everything that is needed to make them again."""
    seeds = ", ".join(map(str, results["config"]["seeds"]))
    lines = [
        f"# {results['title']}",
        "",
        f"{results['train_clips']} training and {results['test_clips']} test clips, {len(results['classes'])} classes. "
        f"Per cent of the test clips that are recognised: mean ± standard deviation over seeds {seeds}, and over their "
        "draws where labels are drawn.",
    ]
    for made in results["sections"].values():
        headings = list(made["columns"].values())
        lines += ["", f"## {made['title']}", "", made["note"], "", f"| | {' | '.join(headings)} |"]
        lines.append("|---" * (len(headings) + 1) + "|")
        for row, cells in made["rows"].items():
            lines.append(f"| {row} | {' | '.join(percent(cells[column]) for column in made['columns'])} |")
    if results["differences"]:
        lines += ["", "## What this says", "", DIFFERENCES, "", "| claim | difference | 95 % interval | shown? |"]
        lines.append("|---|---|---|---|")
        for each in results["differences"]:
            mean, width = each["mean"], each["interval"]
            spread = NOTHING if width is None else f"{points(mean - width)} to {points(mean + width)}"
            lines.append(f"| {each['claim']} | {points(mean)} | {spread} | {verdict(each)} |")
    if results["per_class"]:
        names = list(results["per_class"])
        lines += ["", "## Class by class", "", f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        for place, label in enumerate(results["classes"]):
            shares = [results["per_class"][name][place] for name in names]
            cells = (NOTHING if share is None else f"{100 * share:.0f}" for share in shares)
            lines.append(f"| {label} | {' | '.join(cells)} |")
    used = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines += [
        "",
        f"`{results['command']}`: training {results['training_seconds']:.0f} s over all calls, on {results['device']}; "
        f"{used}.",
        "",
    ]
    return "\n".join(lines)


DIFFERENCES = (
    "Differences of the linear probe in points, seed by seed; the interval is Student's over the seeds, which is wide "
    "for few of them. Shown is what it leaves no doubt of."
)


def page(results: Mapping[str, Any], scores: Mapping[str, Scores]) -> str:
    """The same with plots, class by class and with the confusion matrix; one file. `scores`: of the first seed."""
    body = [_section(made) for made in results["sections"].values()]
    if results["differences"]:
        body.insert(0, _differences(results["differences"]))
    if scores:
        body.append(class_by_class(scores, results["classes"]))
    facts = {
        "training clips": str(results["train_clips"]),
        "test clips": str(results["test_clips"]),
        "classes": str(len(results["classes"])),
        "seeds": ", ".join(map(str, results["config"]["seeds"])),
        "training": f"{results['training_seconds']:.0f} s",
        "device": results["device"],
    }
    return document(results["title"], f"Made by {results['command']}", facts, body)


def _section(made: Mapping[str, Any]) -> str:
    columns = made["columns"]
    best = {column: max(cells[column]["mean"] for cells in made["rows"].values()) for column in columns}
    head = "".join(f"<th>{escape(heading)}</th>" for heading in columns.values())
    lines = []
    for row, cells in made["rows"].items():
        shown = "".join(_cell(cells[column], cells[column]["mean"] == best[column]) for column in columns)
        lines.append(f"<tr><th>{escape(row)}</th>{shown}</tr>")
    table = f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    first = next(iter(columns))
    rows = {row: [sum(draws) / len(draws) for draws in cells[first]["seeds"]] for row, cells in made["rows"].items()}
    figure = plots.seeds_figure(rows, columns[first])
    return section(made["title"], made["note"], table + plots.inline_image(figure, "Every seed of every row", 1100))


def _cell(cell: Mapping[str, Any], best: bool) -> str:
    mark = ' class="best"' if best else ""
    width = "" if cell["interval"] is None else f"<small>95 % interval ± {100 * cell['interval']:.1f}</small>"
    return f'<td{mark}><span style="width:{100 * cell["mean"]:.1f}%"></span><b>{percent(cell)} %</b>{width}</td>'


def _differences(found: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for each in found:
        mean, width = each["mean"], each["interval"]
        spread = NOTHING if width is None else f"{points(mean - width)} to {points(mean + width)}"
        cells = "".join(f"<td>{text}</td>" for text in (points(mean), spread, verdict(each)))
        lines.append(f"<tr><th>{escape(each['claim'])}</th>{cells}</tr>")
    head = "<tr><th></th><th>difference</th><th>95 % interval</th><th>shown?</th></tr>"
    table = f"<table><thead>{head}</thead><tbody>{''.join(lines)}</tbody></table>"
    return section("What this says", DIFFERENCES, table)
