"""One HTML page about a run, which needs no network and no other file.

Fill a :class:`Results` with what there is; a section without its entry is left out::

    results = Results(
        title="ASMa on UTD-MHAD",
        lead="Pretrained without labels on 431 clips, then probed.",
        facts={"data": "UTD-MHAD, 861 clips", "device": "CPU, 2 threads", "time": "12 min"},
        rows=[Row("random encoder", random.top1, random.top5, knn(...)), Row("encoder 1", ...), Row("aligned", ...)],
        classes=clips.classes,
        masked=mask_clip(clips.clip(0), clips.skeleton, config.masks, title="clip a1_s1"),
        metrics={"encoder 1": folder / "e1" / "metrics.jsonl", "student": folder / "student" / "metrics.jsonl"},
        scores={"random encoder": random, "aligned": aligned},  # the last one is the one of interest
        features={"random encoder": f_random, "pretrained": f_trained},
        labels=test.label,
        models=[Model("teacher", 451_004, 9.1, 0.84), Model("student", 38_000, 1.2, 0.81)],
    )
    write_report(folder, results)  # folder/report.html
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from . import plots
from .checkpoint import versions
from .evaluate import Scores
from .extras import extra
from .files import write_text
from .mask_picture import MaskedClip, mask_figure
from .moving_picture import moving_picture
from .scores import check_features, check_labels

__all__ = [
    "Model",
    "Results",
    "Row",
    "class_by_class",
    "document",
    "embed",
    "read_metrics",
    "section",
    "write_report",
]

REPORT_FILE = "report.html"
MOST_POINTS = 1000
"""Clips of an embedding; of more, as many are taken at even distances."""
TSNE_DIMENSIONS = 30
FEWEST_FOR_TSNE = 10


@dataclass(frozen=True)
class Row:
    """A line of the table of results; shares in [0, 1], None where nothing was measured."""

    name: str
    top1: float | None
    top5: float | None = None
    knn: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Model:
    """What a model costs and is worth."""

    name: str
    parameters: int
    milliseconds: float
    """For one clip on one CPU thread, or as the facts say."""
    top1: float


@dataclass(frozen=True)
class Results:
    """What a report shows; see the top of this module."""

    title: str
    lead: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    rows: Sequence[Row] = ()
    classes: Sequence[str] = ()
    """K names, for scores and features."""
    masked: MaskedClip | None = None
    metrics: Mapping[str, Path] = field(default_factory=dict)
    """Run -> its metrics.jsonl."""
    scores: Mapping[str, Scores] = field(default_factory=dict)
    """Classifier -> its scores on the test clips; the confusion matrix is the last one's."""
    features: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Encoder -> features (N, D) of the clips whose classes are `labels`."""
    labels: NDArray[np.int64] | None = None
    """(N)."""
    models: Sequence[Model] = ()
    """The teacher first, then its students."""


def write_report(folder: str | os.PathLike[str], results: Results) -> Path:
    """Write `report.html` into a folder, atomically; the folder is made if it is not there.

    Deterministic, but for the versions in its foot.

    Returns:
        The path of the page.

    Raises:
        MissingExtraError: matplotlib or scikit-learn is not installed.
        ValueError: a metrics file has no line, features are not finite, or features, scores, labels and classes do not
            fit.
    """
    page = _page(results)
    path = Path(folder) / REPORT_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page)
    return path


def read_metrics(path: Path) -> tuple[list[float], list[float]]:
    """Steps and losses of a metrics.jsonl; a last line that a crash cut off is left out.

    Raises:
        ValueError: the file has no whole line with a step and a loss.
    """
    steps, losses = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            values = json.loads(line)
            step, loss = float(values["step"]), float(values["loss"])
        except (ValueError, KeyError, TypeError):
            continue
        steps.append(step)
        losses.append(loss)
    if not steps:
        raise ValueError(f"read_metrics: {path} must have lines with a step and a loss, it has none")
    return steps, losses


def embed(features: torch.Tensor, seed: int = 0) -> NDArray[np.float32]:
    """Features (N, D) in the plane by t-SNE (van der Maaten and Hinton, 2008), or by PCA for less than 10 clips.

    Features are standardised and reduced to 30 principal components first; equal ones are one point. Deterministic.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        ValueError: another shape, no clip, or features that are not finite.
    """
    x = check_features("embed", "features", features).double()  # exact enough that equal features become exactly 0
    x = (x - x.mean(dim=0)) / x.std(dim=0, correction=0).clamp(min=1e-4)
    basis, scale, _ = torch.linalg.svd(x, full_matrices=False)
    components = (basis * scale)[:, :TSNE_DIMENSIONS].float().numpy()
    # scikit-learn crashes on clips that are all the same point.
    if len(x) < FEWEST_FOR_TSNE or components.shape[1] < 2 or not components.any():
        plane = np.zeros((len(x), 2), np.float32)
        plane[:, : min(2, components.shape[1])] = components[:, :2]
        return plane
    manifold = extra("sklearn.manifold")
    perplexity = min(30.0, (len(x) - 1) / 3)
    found = manifold.TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(components)
    return np.asarray(found, np.float32)


def _page(results: Results) -> str:
    sections = [
        _table(results.rows),
        _masks(results.masked),
        _losses(results.metrics),
        _embedding(results),
        class_by_class(results.scores, results.classes),
        _models(results.models),
    ]
    return document(results.title, results.lead, results.facts, sections)


def document(title: str, lead: str, facts: Mapping[str, str], sections: Sequence[str]) -> str:
    """A whole page: `sections` are HTML, all else is text."""
    made_with = ", ".join(f"{name} {version}" for name, version in versions().items())
    pairs = (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    said = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{said}
<dl>{"".join(pairs)}</dl>
</header>
<main>
{"".join(sections)}
</main>
<footer>Made with {escape(made_with)}. Everything on this page is inside this one file.</footer>
</body>
</html>
"""


def section(title: str, text: str, body: str) -> str:
    """A box of a page: `body` is HTML."""
    return f"<section><h2>{escape(title)}</h2>\n<p>{escape(text)}</p>\n{body}\n</section>\n"


def _table(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    measures = [("top1", "linear probe"), ("top5", "top 5"), ("knn", "1-NN")]
    measures = [each for each in measures if any(getattr(row, each[0]) is not None for row in rows)]
    best = {name: max(getattr(row, name) for row in rows if getattr(row, name) is not None) for name, _ in measures}
    head = "".join(f"<th>{title}</th>" for _, title in measures)
    lines = []
    for row in rows:
        note = f"<small>{escape(row.note)}</small>" if row.note else ""
        cells = "".join(_share_cell(getattr(row, name), getattr(row, name) == best[name]) for name, _ in measures)
        lines.append(f"<tr><th>{escape(row.name)}{note}</th>{cells}</tr>")
    table = f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    text = "Share of the test clips that are recognised. Features are frozen where nothing else is said."
    return section("Results", text, table)


def _share_cell(value: float | None, best: bool) -> str:
    if value is None:
        return '<td class="none">–</td>'
    mark = ' class="best"' if best else ""
    return f'<td{mark}><span style="width:{100 * value:.1f}%"></span><b>{100 * value:.1f} %</b></td>'


def _masks(masked: MaskedClip | None) -> str:
    if masked is None:
        return ""
    picture = plots.inline_image(mask_figure(masked), "Skeletons of a clip with the masks of both encoders", 1160)
    text = (
        "Two encoders learn from views of a clip that lack something: joints in one view, frames in another. What one "
        "of them loses, the other one sees. Below, the clip itself and the two as they lose it."
    )
    return section("What is masked", text, moving_picture(masked) + picture)


def _losses(metrics: Mapping[str, Path]) -> str:
    if not metrics:
        return ""
    figure = plots.loss_figure({name: read_metrics(path) for name, path in metrics.items()})
    text = "Every run has a loss of its own kind, so compare a curve with itself only."
    return section("Training", text, plots.inline_image(figure, "Loss curves", 1100))


def _embedding(results: Results) -> str:
    if not results.features:
        return ""
    if results.labels is None or not results.classes:
        raise ValueError("write_report: features must come with labels and classes, got none")
    for name, features in results.features.items():
        if len(features) != len(results.labels):
            raise ValueError(
                f"write_report: features of {name!r} must have a label each, "
                f"got {len(features)} and {len(results.labels)}"
            )
    clips = len(results.labels)
    labels = check_labels("write_report", "labels", results.labels, clips, len(results.classes)).numpy()
    kept = np.unique(np.linspace(0, clips - 1, min(clips, MOST_POINTS)).round().astype(np.int64))
    points = {name: embed(features[torch.from_numpy(kept)]) for name, features in results.features.items()}
    figure = plots.embedding_figure(points, labels[kept], results.classes)
    method = "t-SNE" if len(kept) >= FEWEST_FOR_TSNE else "PCA, too few for t-SNE"
    text = (
        f"Features of {len(kept)} clips in the plane ({method}). Labels colour the points and were not used to place "
        "them: the better the features, the fewer the clips among those of another class."
    )
    return section("What the features know", text, plots.inline_image(figure, "Features in the plane", 1100))


def class_by_class(scores: Mapping[str, Scores], classes: Sequence[str]) -> str:
    """Each class's accuracy by every classifier, and what the last one takes for what; empty without scores.

    Raises:
        ValueError: other numbers of classes.
    """
    if not scores:
        return ""
    for name, each in scores.items():
        if len(each.per_class) != len(classes):
            raise ValueError(
                f"write_report: classes must be the {len(each.per_class)} of the scores of {name!r}, got {len(classes)}"
            )
    name, last = list(scores.items())[-1]
    rows = {name: each.per_class for name, each in scores.items()}
    per_class = plots.inline_image(plots.per_class_figure(rows, classes), "Accuracy of each class", 1100)
    confusion = plots.inline_image(plots.confusion_figure(last.confusion, classes), "Confusion matrix", 860)
    matrix = (
        "Rows are true classes, columns predicted ones; the number of clips is in the cell where it fits. Blue is "
        "right, orange is wrong; the deeper, the larger the share of the row's clips."
    )
    return section("Class by class", "Share of each class's test clips that are recognised.", per_class) + section(
        f"What is taken for what: {name}", matrix, confusion
    )


def _models(models: Sequence[Model]) -> str:
    if not models:
        return ""
    teacher = models[0]
    lines = []
    for model in models:
        cells = (
            _cost_cell(f"{model.parameters:,}", model.parameters, teacher.parameters, "of the parameters"),
            _cost_cell(f"{model.milliseconds:.2f} ms", model.milliseconds, teacher.milliseconds, "of the time"),
            _share_cell(model.top1, False),
        )
        lines.append(f"<tr><th>{escape(model.name)}</th>{''.join(cells)}</tr>")
    head = "<tr><th></th><th>parameters</th><th>time for one clip</th><th>accuracy</th></tr>"
    table = f"<table><thead>{head}</thead><tbody>{''.join(lines)}</tbody></table>"
    text = "A small student is trained to answer as the teacher does: both encoders with alignment and classifier."
    return section("Teacher and student", text, table)


def _cost_cell(shown: str, value: float, whole: float, of: str) -> str:
    share = value / whole if whole else math.nan
    note = f"<small>{100 * share:.1f} % {of}</small>" if math.isfinite(share) and share != 1 else ""
    width = 100 * min(share, 1.0) if math.isfinite(share) else 0.0
    return f'<td class="cost"><span style="width:{width:.1f}%"></span><b>{shown}</b>{note}</td>'


STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f6f8; color: #1f2933; }
body { font: 16px/1.55 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
header, main, footer { max-width: 1240px; margin: 0 auto; padding: 0 32px; }
header { padding-top: 44px; }
h1 { font-size: 34px; line-height: 1.2; margin: 0 0 10px; letter-spacing: -0.01em; }
.lead { font-size: 19px; margin: 0 0 22px; max-width: 46em; color: #3e4c59; }
dl { display: flex; flex-wrap: wrap; gap: 12px 36px; margin: 0 0 28px; }
dt { font-size: 13px; color: #5f6b7a; }
dd { margin: 0; font-weight: 600; }
section { background: #fff; border: 1px solid #dfe4e9; border-radius: 10px; padding: 22px 28px 26px; margin: 0 0 22px; }
h2 { font-size: 21px; margin: 0 0 4px; }
section > p { margin: 0 0 16px; color: #3e4c59; max-width: 60em; }
img, svg { display: block; width: 100%; height: auto; margin: 0 auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 9px 12px; border-top: 1px solid #e6eaee; vertical-align: middle; }
thead th { border: 0; color: #5f6b7a; font-size: 14px; font-weight: 600; padding-top: 0; }
tbody th { font-weight: 500; width: 34%; }
small { display: block; color: #5f6b7a; font-weight: 400; font-size: 13.5px; }
td { position: relative; }
td span { display: block; height: 7px; border-radius: 3px; background: #9dc3dd; min-width: 2px; margin-bottom: 3px; }
td b { font-weight: 500; }
td.best b { font-weight: 750; }
td.best span { background: #0072b2; }
td.cost span { background: #eab07f; }
td.none { color: #8a96a3; }
footer { color: #5f6b7a; font-size: 14px; padding-bottom: 44px; }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""
