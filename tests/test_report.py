"""The page about a run: everything is inside one file, names are text, numbers are the given ones."""

import base64
import json
import os
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from asma import plots, report
from asma.data import builtin_clips
from asma.extras import MissingExtraError
from asma.mask_picture import mask_clip
from asma.report import Model, Results, Row, embed, read_metrics, write_report
from asma.scores import score

CLASSES = ("<b>&", "wave", "kick")
LABELS = np.arange(24) % 3


class Page(HTMLParser):
    """Tags, their attributes and the text of a page; pictures by themselves."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.pieces: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = "\n".join(self.pieces)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def pictures(self) -> list[str]:
        """The SVG texts of its images."""
        sources = [value for tag, name, value in self.attributes if (tag, name) == ("img", "src")]
        return [base64.b64decode(source.split("base64,")[1]).decode() for source in sources]

    def rows(self) -> list[list[str]]:
        """Cells of its tables, without tags."""
        lines = re.findall(r"<tr>(.*?)</tr>", self.source)
        return [[re.sub("<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", line)] for line in lines]


def features() -> torch.Tensor:
    """(24, 6), three groups far from each other."""
    return 8 * torch.eye(3, 6)[torch.from_numpy(LABELS)] + torch.randn(24, 6)


def write_metrics(path: Path) -> Path:
    path.write_text("".join(json.dumps({"step": step, "loss": 5.0 / step}) + "\n" for step in range(1, 6)))
    return path


def everything(folder: Path, name: str = "<b>&") -> Results:
    """A page with all of its sections; every text that a user gives is `name`."""
    torch.manual_seed(0)
    clips = builtin_clips(classes=2, subjects=2, views=1, repeats=1)
    first, second = (score(torch.rand(24, 3), LABELS) for _ in range(2))
    return Results(
        title=name,
        lead=name,
        facts={name: name},
        rows=[Row(name, 0.5, 0.875, 0.25, note=name), Row("other", 0.8125, 0.75), Row("third", None, knn=0.375)],
        classes=(name, *CLASSES[1:]),
        masked=mask_clip(clips.clip(0), clips.skeleton, title=name),
        metrics={name: write_metrics(folder / "metrics.jsonl")},
        scores={"random": first, name: second},
        features={name: features(), "other": features()},
        labels=LABELS,
        models=[Model(name, 451_004, 8.0, 0.84), Model("student", 45_100, 2.0, 0.8)],
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("report")
    return Page(write_report(folder, everything(folder)))


def test_the_page_is_one_file_that_needs_no_other(page: Page) -> None:
    assert page.source.startswith("<!doctype html>") and page.source.rstrip().endswith("</html>")
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "a"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert name not in ("href", "xlink:href", "srcset", "action", "data", "poster"), (tag, name)
        assert not name.startswith("on") and "url(" not in value and "http" not in value, (tag, name, value[:99])
        assert name != "src" or value.startswith("data:image/"), (tag, value[:99])
    assert page.tags.count("img") == 5 and page.tags.count("svg") == 1
    (style,) = re.findall(r"<style>(.*?)</style>", page.source, re.DOTALL)
    assert "url(" not in style and "@import" not in style


def test_its_pictures_are_whole_and_need_nothing_from_elsewhere(page: Page) -> None:
    for picture in page.pictures:
        root = ElementTree.fromstring(picture)
        assert root.tag.endswith("svg") and len(list(root.iter())) > 20
        for element in root.iter():
            for name, value in element.attrib.items():
                assert not name.endswith("href") or value.startswith(("#", "data:image/")), value[:99]
            assert not element.tag.endswith("script")
    (moving,) = re.findall(r"<svg.*?</svg>", page.source, re.DOTALL)
    assert len(list(ElementTree.fromstring(moving).iter("animate"))) > 100


def test_names_with_markup_are_text(tmp_path: Path) -> None:
    marked, harmless = (
        Page(write_report(tmp_path, replace(everything(tmp_path, name), masked=None))) for name in ("<b>&", "plain")
    )
    assert marked.tags == harmless.tags
    assert marked.source.count("&lt;b&gt;&amp;") == harmless.source.count("plain") > 8
    assert marked.text == harmless.text.replace("plain", "<b>&")
    (title,) = re.findall("<title>(.*?)</title>", marked.source)
    assert title == "&lt;b&gt;&amp;"


def test_no_name_breaks_the_page(tmp_path: Path) -> None:
    names = ['"><script>alert(1)</script>', "$\\foo$", "a $x$ b", "_hidden", "--><!--", "Grüße", "a\nb", "", "#%{}"]
    labels = np.arange(27) % 9
    x = torch.randn(27, 4)
    results = Results(
        title="t",
        rows=[Row(name, 0.5, note=name) for name in names],
        classes=names,
        metrics=dict.fromkeys(names, write_metrics(tmp_path / "metrics.jsonl")),
        scores={name: score(torch.rand(27, 9), labels) for name in names},
        features=dict.fromkeys(names[:3], x),
        labels=labels,
        models=[Model(name, 1, 1.0, 0.5) for name in names],
    )
    found = Page(write_report(tmp_path, results))
    assert "script" not in found.tags and found.tags.count("img") == len(found.pictures) == 4
    for picture in found.pictures:
        ElementTree.fromstring(picture)
    assert all(found.text.count(name) >= 3 for name in names)  # in both tables


def test_rows_and_numbers_are_there(page: Page) -> None:
    rows = page.rows()
    assert rows[0] == ["", "linear probe", "top 5", "1-NN"]
    assert rows[1] == ["&lt;b&gt;&amp;&lt;b&gt;&amp;", "50.0 %", "87.5 %", "25.0 %"]
    assert rows[2:4] == [["other", "81.2 %", "75.0 %", "–"], ["third", "–", "–", "37.5 %"]]
    assert rows[5] == ["&lt;b&gt;&amp;", "451,004", "8.00 ms", "84.0 %"]
    assert rows[6] == ["student", "45,10010.0 % of the parameters", "2.00 ms25.0 % of the time", "80.0 %"]
    best = re.findall(r'<td class="best"><span style="width:([\d.]+)%"', page.source)
    assert best == ["87.5", "81.2", "37.5"]
    assert "Features of 24 clips in the plane (t-SNE)" in page.text
    assert f"torch {torch.__version__}" in page.text


def test_measures_and_sections_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    bare = Page(write_report(tmp_path / "new" / "folder", Results(title="Nothing yet")))
    assert bare.pieces.count("Nothing yet") == 2 and not {"section", "img", "table"} & set(bare.tags)
    only = Page(write_report(tmp_path, Results(title="t", rows=[Row("a", 0.5)])))
    assert only.rows() == [["", "linear probe"], ["a", "50.0 %"]]
    none = Page(write_report(tmp_path, Results(title="t", rows=[Row("a", None)])))
    assert none.rows() == [[""], ["a"]]


def test_the_same_results_give_the_same_page(tmp_path: Path, page: Page) -> None:
    file = write_report(tmp_path, everything(tmp_path))
    assert file == tmp_path / "report.html" and file.read_text(encoding="utf-8") == page.source


def test_what_does_not_fit_is_refused_and_the_old_page_stays(tmp_path: Path) -> None:
    old = write_report(tmp_path, Results(title="old")).read_bytes()
    whole = replace(everything(tmp_path), masked=None, metrics={})
    broken = features()
    broken[3, 1] = torch.nan
    (tmp_path / "empty.jsonl").write_text("")
    other = score(torch.rand(24, 4), LABELS)
    for changes, message in (
        ({"labels": None}, "write_report: features must come with labels and classes, got none"),
        ({"classes": (), "scores": {}}, "write_report: features must come with labels and classes, got none"),
        ({"labels": LABELS[:20]}, "write_report: features of '<b>&' must have a label each, got 24 and 20"),
        ({"features": {"a": features(), "b": features()[:9]}}, "features of 'b' must have a label each, got 9 and 24"),
        ({"labels": LABELS + 1}, r"write_report: labels must be in \[0, 3\), got 3"),
        ({"labels": LABELS - 1}, r"write_report: labels must be in \[0, 3\), got -1"),
        ({"labels": LABELS / 2}, "write_report: labels must be integers, got torch.float64"),
        ({"features": {"a": broken}}, "features must be finite, row 3 is not"),
        ({"features": {"a": features()[:, 0]}}, r"features must be \(N, D\) .*, got shape \(24,\)"),
        (
            {"classes": CLASSES[:2], "features": {}},
            "write_report: classes must be the 3 of the scores of 'random', got",
        ),
        ({"scores": {"a": other, "b": whole.scores["random"]}}, "classes must be the 4 of the scores of 'a', got 3"),
        ({"metrics": {"a": tmp_path / "empty.jsonl"}}, "read_metrics: .*empty.jsonl must have lines with a step"),
    ):
        with pytest.raises(ValueError, match=message):
            write_report(tmp_path, replace(whole, **changes))
        assert (tmp_path / "report.html").read_bytes() == old
    assert {file.name for file in tmp_path.iterdir()} == {"report.html", "metrics.jsonl", "empty.jsonl"}


def test_a_full_disk_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write_report(tmp_path, Results(title="old")).read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(tmp_path, Results(title="new"))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"report.html": old}


def test_a_missing_package_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = replace(everything(tmp_path), masked=None, metrics={})
    for package in ("sklearn.manifold", "matplotlib"):
        with (
            monkeypatch.context() as patch,
            pytest.raises(MissingExtraError, match="is needed here and is not installed"),
        ):
            patch.setitem(sys.modules, package, None)
            write_report(tmp_path, whole)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("clips", [1, 2, 3, 9, 10, 13])
@pytest.mark.parametrize("width", [1, 2, 40])
def test_few_clips_have_a_place_each(tmp_path: Path, clips: int, width: int) -> None:
    x = torch.randn(clips, width)
    plane = embed(x)
    assert plane.shape == (clips, 2) and plane.dtype == np.float32 and np.isfinite(plane).all()
    assert len(np.unique(plane, axis=0)) == clips
    results = Results(title="t", features={"a": x}, labels=LABELS[:clips], classes=CLASSES)
    method = "t-SNE" if clips >= 10 else "PCA, too few for t-SNE"
    assert f"Features of {clips} clips in the plane ({method})" in Page(write_report(tmp_path, results)).text


def test_a_single_class_and_features_that_never_change_have_a_picture(tmp_path: Path) -> None:
    """scikit-learn's t-SNE ends the process on clips that are all alike, as a collapsed encoder makes them."""
    alike = torch.full((24, 6), 0.1)
    assert np.ptp(embed(alike), axis=0).tolist() == [0, 0]
    pairs = torch.cat([alike[:12], 2 * alike[:12]])
    assert np.isfinite(embed(pairs)).all()
    some = {"alike": alike, "in pairs": pairs, "in a line": torch.arange(24.0)[:, None] * torch.ones(6)}
    results = Results(title="t", features=some, labels=0 * LABELS, classes=CLASSES)
    assert len(Page(write_report(tmp_path, results)).pictures) == 1


def test_groups_stay_groups_in_the_plane_whatever_the_scale_of_a_feature() -> None:
    scale = torch.tensor([1.0, 1e4, 1e-2, 1.0, 1.0, 1.0])
    for x in (features(), features() * scale + 100):
        plane = embed(x)
        distance = np.linalg.norm(plane[:, None] - plane[None], axis=2)
        np.fill_diagonal(distance, np.inf)
        assert (LABELS[distance.argmin(axis=1)] == LABELS).all()
    torch.manual_seed(5)
    np.random.seed(5)
    np.testing.assert_array_equal(embed(x), plane)


def test_many_clips_are_thinned_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MOST_POINTS", 11)
    seen = []
    figure = plots.embedding_figure
    monkeypatch.setattr(plots, "embedding_figure", lambda *given: seen.append(given) or figure(*given))
    results = Results(title="t", features={"a": features()}, labels=LABELS, classes=CLASSES)
    assert "Features of 11 clips" in Page(write_report(tmp_path, results)).text
    ((points, labels, _),) = seen
    assert points["a"].shape == (11, 2)
    assert labels.tolist() == [clip % 3 for clip in (0, 2, 5, 7, 9, 12, 14, 16, 18, 21, 23)]


def test_metrics_are_read_up_to_where_a_crash_cut_them(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 2, "loss": 1.5, "lr": 0}\n{"step": 4, "loss": 1}\n{"step": 6, "lo')
    assert read_metrics(file) == ([2.0, 4.0], [1.5, 1.0])
    for text in ("", "\n", '{"step": 1}\n', "[1, 2]\n", '{"step": 1, "loss": null}\n', "text\n"):
        file.write_text(text)
        with pytest.raises(ValueError, match=f"read_metrics: {file} must have lines with a step and a loss"):
            read_metrics(file)


def texts(figure) -> list[str]:  # noqa: ANN001
    """What is written in a figure, its axes and its legends."""
    figure.draw_without_rendering()
    return [each.get_text() for each in figure.findobj(match=lambda each: hasattr(each, "get_text"))]


def test_the_confusion_matrix_says_how_many_clips_were_taken_for_what() -> None:
    confusion = np.array([[7, 0, 3], [0, 11, 0], [0, 0, 0]])
    figure = plots.confusion_figure(confusion, CLASSES)
    (axes,) = figure.axes
    cells = {each.get_position(): each.get_text() for each in axes.texts}
    assert cells == {(0, 0): "7", (2, 0): "3", (1, 1): "11"}
    assert [each.get_text() for each in axes.get_yticklabels()] == list(CLASSES)
    colours = axes.images[0].get_array()
    np.testing.assert_array_equal(colours[2], np.ones((3, 3)))
    assert colours[1, 1, 2] > colours[1, 1, 0] and colours[0, 2, 0] > colours[0, 2, 2]
    many = plots.confusion_figure(np.eye(20, dtype=np.int64), [f"class {k}" for k in range(20)])
    assert not many.axes[0].texts


def test_classes_are_in_the_order_of_the_last_row_and_those_without_a_clip_are_there() -> None:
    rows = {"_first": np.array([1.0, 0.0, np.nan]), "last": np.array([0.75, 0.25, np.nan])}
    figure = plots.per_class_figure(rows, CLASSES)
    (axes,) = figure.axes
    assert [each.get_text() for each in axes.get_yticklabels()] == ["kick", "wave", "<b>&"]
    assert [each.get_text() for each in axes.get_legend().get_texts()] == ["_first", "last"]
    np.testing.assert_allclose(axes.collections[-1].get_offsets()[1:], [[0.25, 1], [0.75, 2]])
    plots.inline_image(plots.per_class_figure({"a": np.full(3, np.nan)}, CLASSES), "none at all", 100)


def test_each_class_that_is_shown_is_in_the_key_of_the_embedding() -> None:
    names = ("a", "_b", "$\\c$", "d")
    figure = plots.embedding_figure({"one": np.eye(3, 2, dtype=np.float32)}, np.array([0, 1, 2]), names)
    assert [each.get_text() for each in figure.legends[0].get_texts()] == list(names[:3])
    points = np.concatenate([each.get_offsets() for each in figure.axes[0].collections])
    np.testing.assert_array_equal(points, np.eye(3, 2))


def test_each_run_has_a_panel_with_its_curve() -> None:
    curves = {f"run {k}": ([1.0, 2.0], [4.0 - k, 2.5]) for k in range(4)} | {"short": ([1.0], [0.125])}
    figure = plots.loss_figure(curves)
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(curves)
    for axes, (steps, losses) in zip(figure.axes, curves.values(), strict=True):
        np.testing.assert_array_equal(axes.lines[0].get_xydata(), np.transpose([steps, losses]))
    assert texts(figure).count("2.5") >= 4 and "0.125" in texts(figure)


def test_a_figure_is_the_same_file_each_time_and_settings_do_not_leak() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    files = {plots.png(plots.loss_figure({"a": ([1.0, 2.0], [2.0, 1.0])})) for _ in range(2)}
    assert len(files) == 1 and files.pop().startswith(b"\x89PNG")
    images = {plots.inline_image(plots.confusion_figure(np.eye(3), CLASSES), "text", 320) for _ in range(2)}
    (image,) = images
    assert image.startswith('<img alt="text" style="max-width:320px" src="data:image/svg+xml;base64,')
    assert dict(matplotlib.rcParams) == before
