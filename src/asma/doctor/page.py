"""What the doctor says as one HTML page without a script: counts, charts, and examples with their skeletons."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..data.dense import dense
from ..data.source import UNKNOWN, Clip, Header, Source
from ..page import page
from . import charts
from .diagnosis import Diagnosis, Example, Finding
from .table import counted, place_of, printable, totals

__all__ = ["doctor_page"]

MOST_PERSONS = 4
"""Bodies of a small picture."""


def doctor_page(diagnosis: Diagnosis, source: Source) -> str:
    """The page; the parts of the source that hold an example are read again for its picture."""
    pictures = _pictures(diagnosis, source)
    facts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in totals(diagnosis).items()
    )
    found = "".join(_finding(finding, pictures) for finding in diagnosis.findings)
    text = "Errors make a set unfit for training; warnings are likely to cost accuracy; notes are worth knowing."
    if not found:
        found = '<p class="nothing">Nothing was found.</p>'
    kind = "good" if diagnosis.fit else "bad"
    body = f"""<header>
<h1>{escape(diagnosis.header.title)}</h1>
<p class="verdict {kind}">{"✓" if diagnosis.fit else "✕"} {escape(diagnosis.verdict)}</p>
<dl>{facts}</dl>
</header>
<main>
<section><h2>What was found</h2><p>{text}</p>{found}</section>
{_charts(diagnosis)}
</main>
<footer>Made by asma data doctor, asma {escape(__version__)}. This page is one file.</footer>"""
    return page(f"{diagnosis.header.title}: {'fit' if diagnosis.fit else 'unfit'}", body, STYLE)


def _finding(finding: Finding, pictures: Mapping[Example, str]) -> str:
    fault = finding.fault
    examples = "".join(_example(example, pictures.get(example, "")) for example in finding.examples)
    more = finding.count - len(finding.examples)
    rest = f'<p class="more">and {more:,} more</p>' if more > 0 else ""
    opened = " open" if fault.severity == "error" else ""
    return f"""<details{opened}><summary><span class="chip {fault.severity}">{fault.severity}</span>
<code>{fault.name}</code> <b>{escape(counted(finding))}</b><span class="what">{escape(fault.what)}</span></summary>
<p class="advice">{escape(fault.advice)}</p><ul>{examples}</ul>{rest}</details>
"""


def _example(example: Example, picture: str) -> str:
    where = place_of(example)
    told = example.source in (where, "") or example.text.startswith(example.source)
    source = "" if told else f"<small>{_text(example.source)}</small>"
    head = f"<b>{_text(where)}</b>" if where else ""
    return f"<li>{picture}<div>{head}<span>{_text(example.text)}</span>{source}</div></li>"


def _text(text: str) -> str:
    return escape(printable(text))


def _charts(diagnosis: Diagnosis) -> str:
    clips, classes = diagnosis.clips, diagnosis.header.classes
    if not len(clips):
        return ""
    parts = [_figure("Length of clips", charts.histogram(clips.frames, "Clips by their number of frames", "frames"))]
    people, count = np.unique(clips.persons, return_counts=True)
    if len(people) > 1:
        chart = charts.columns(count.tolist(), [str(number) for number in people], "Clips by their persons", "persons")
        parts.append(_figure("Persons", chart))
    for name, values in (("subject", clips.subject), ("view", clips.view)):
        if (values != UNKNOWN).any():
            parts.append(_figure(f"{name.capitalize()}s", _numbers(values, name)))
    if diagnosis.sides:
        names = [name for title, _, _ in diagnosis.sides for name in _sides(title)]
        counts = [count for _, train, test in diagnosis.sides for count in (train, test)]
        parts.append(_figure("Splits", charts.bars(counts, names, "Clips of each side of each split")))
    if classes:
        counts = [int((clips.label == label).sum()) for label in range(len(classes))]
        parts.append(_figure("Classes", charts.bars(counts, classes, "Clips of each class"), wide=len(classes) > 14))
    text = "<h2>The set</h2><p>How many clips there are of what.</p>"
    return f'<section>{text}<div class="charts">{"".join(parts)}</div></section>'


def _numbers(values: NDArray[np.int64], name: str) -> str:
    numbers, count = np.unique(values, return_counts=True)
    if len(numbers) > charts.MOST_COLUMNS:
        return charts.histogram(values[values != UNKNOWN], f"Clips by their {name}", name)
    names = ["unknown" if number == UNKNOWN else str(number) for number in numbers]
    return charts.columns(count.tolist(), names, f"Clips of each {name}", name)


def _sides(title: str) -> list[str]:
    """What the sides of a split are called: two names, or a protocol."""
    return title.split("/") if title.count("/") == 1 else [f"{title}: training", f"{title}: test"]


def _figure(title: str, chart: str, wide: bool = False) -> str:
    return f"<figure{' class=wide' if wide else ''}><figcaption>{escape(title)}</figcaption>{chart}</figure>"


def _pictures(diagnosis: Diagnosis, source: Source) -> dict[Example, str]:
    clips = diagnosis.clips
    wanted: dict[int, dict[int, list[Example]]] = {}
    for finding in diagnosis.findings:
        for example in finding.examples:
            if example.index >= 0:
                part, place = int(clips.part[example.index]), int(clips.place[example.index])
                wanted.setdefault(part, {}).setdefault(place, []).append(example)
    found = {}
    for part, places in sorted(wanted.items()):
        place = 0
        try:
            for clip in source.read(source.parts[part]):
                if isinstance(clip, Clip):
                    for example in places.get(place, ()):
                        found[example] = _picture(clip, diagnosis.header, example)
                    place += 1
        except (ValueError, OSError):
            continue  # said already, where the clips before it were looked at
    return found


def _picture(clip: Clip, header: Header, example: Example) -> str:
    body = dense(clip, header)
    if not len(body.persons):
        return ""
    frame = example.frame
    if frame is None:
        frame = int(np.argmax(body.there.any(0) & (np.arange(clip.frames) >= clip.frames // 2)))
    rows = sorted({*example.persons, *range(MOST_PERSONS)} & set(range(len(body.persons))))[:MOST_PERSONS]
    marked = {(rows.index(person), joint) for person in example.persons if person in rows for joint in example.joints}
    flat = _paper(body.data[rows], header)
    before = flat[:, frame - 1] if frame and example.persons else None
    edges = header.skeleton.edges
    return charts.skeleton(flat[:, frame], edges, marked, before, f"Skeleton of {clip.name}, frame {frame}")


def _paper(data: NDArray[np.float32], header: Header) -> NDArray[np.float32]:
    """(M, T, V, 2) with y down; as the camera sees it, to whose left x grows."""
    signs = (1, 1) if header.channels == "xys" else (-1, -1)
    flat = data[..., :2] * np.array(signs, np.float32)
    flat[~np.isfinite(flat).all(-1) | (data[..., :2] == 0).all(-1)] = np.nan
    return np.asarray(flat)


STYLE = """
.verdict { display: inline-block; font-size: 18px; font-weight: 600; padding: 6px 14px; border-radius: 8px; }
.verdict { margin: 0 0 18px; }
.verdict.good { background: var(--good-soft); color: var(--good); }
.verdict.bad { background: var(--error-soft); color: var(--error); }
.nothing { font-size: 18px; }
details { border-top: 1px solid var(--line); padding: 10px 0; }
summary { cursor: pointer; display: grid; grid-template-columns: 76px 200px 170px 1fr 16px; gap: 14px;
  align-items: baseline; list-style: none; border-radius: 6px; }
summary::after { content: "▸"; color: var(--muted); text-align: center; }
details[open] > summary::after { content: "▾"; }
summary::-webkit-details-marker { display: none; }
.chip { font-size: 13px; font-weight: 600; border-radius: 20px; padding: 1px 0; text-align: center; }
.chip.error { background: var(--error-soft); color: var(--error); }
.chip.warning { background: var(--warning-soft); color: var(--warning); }
.chip.note { background: var(--note-soft); color: var(--note); }
.what { color: var(--muted); }
.advice { margin: 8px 0 10px 90px; }
ul { list-style: none; margin: 0 0 0 90px; padding: 0; display: grid; gap: 10px; }
ul { grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); }
li { display: flex; gap: 12px; background: var(--soft); border-radius: 8px; padding: 10px; min-width: 0; }
li svg { flex: none; width: 96px; height: 96px; background: var(--paper); border-radius: 6px; }
li div { min-width: 0; overflow-wrap: anywhere; font-size: 14.5px; }
li b, li span, li small { display: block; }
li b { font-weight: 600; }
small { color: var(--muted); font-size: 12.5px; }
.more { margin: 8px 0 0 90px; color: var(--muted); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); gap: 22px 34px; }
figure { margin: 0; } figure.wide { grid-column: 1 / -1; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { font-weight: 600; margin-bottom: 6px; }
svg text { font-size: 12.5px; fill: var(--muted); font-family: inherit; }
svg .number { fill: var(--ink); font-size: 12px; }
.bar { fill: var(--blue); }
.axis { stroke: var(--line); }
.body path { fill: none; stroke-width: 2.2; stroke-linecap: round; }
.body.p0 { --c: var(--person-0); } .body.p1 { --c: var(--person-1); }
.body.p2 { --c: var(--person-2); } .body.p3 { --c: var(--person-3); }
.body path { stroke: var(--c); } .body circle { fill: var(--c); }
.body.before { opacity: 0.28; }
.body .mark { fill: none; stroke: var(--vermilion); stroke-width: 2.2; }
@media (max-width: 800px) {
  summary { grid-template-columns: 76px 1fr 16px; }
  summary b { grid-column: 2; } .what { grid-column: 1 / -1; } summary::after { grid-row: 1; grid-column: 3; }
  .advice, ul, .more { margin-left: 0; }
}
"""
