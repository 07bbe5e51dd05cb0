"""The pages of the doctor and of a clip, as text and in headless Chromium: what moves, what cannot run."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from browser import BROWSER, Browser
from PIL import Image
from sources import Entry, Listed, changed, entries_of, header_of, small_set

from asma.data.source import Clip, Header, LeftOut, Track
from asma.doctor.page import doctor_page
from asma.doctor.survey import examine
from asma.page import STYLE
from asma.show.clip import shown
from asma.show.page import clip_page
from asma_kernels import Skeleton

SET = small_set()
CLIPS = entries_of(SET)
HEADER = header_of(SET)
EVIL = "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">'&"
GREEN, PINK = (0x1B, 0x7F, 0x5C), (0xB0, 0x53, 0x8C)
BLUE, VERMILION, ORANGE = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0xE6, 0x9F, 0x00)


def two_persons(name: str = "two") -> Clip:
    first, second = (CLIPS[i].tracks[0].data[:40] for i in (16, 18))
    return Clip(name, 40, (Track(0, 0, first), Track(1, 0, second + np.array([1, 0, 0], np.float32))), 1, 2, 3)


def with_faults(name: str = "a") -> Listed:
    """A set with a few faults, whose every text is `name`."""

    def jump(data: np.ndarray) -> None:
        data[9, 4] += 3

    entries: list[Entry] = [
        *CLIPS, changed(CLIPS[3], jump, name=name, source=name), replace(CLIPS[4], name=name, label=7),
        replace(CLIPS[5], name=f"{name} empty", tracks=()), LeftOut(name, name),
        replace(two_persons(), splits=(f"train {name}", f"test {name}")), ValueError(name),
    ]  # fmt: skip
    skeleton = replace(HEADER.skeleton, names=(name, *HEADER.skeleton.names[1:]), name=name)
    return Listed(Header(name, skeleton, "xyz", (name, "b", "c")), {name: entries})


class Page(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if BROWSER is None:
        pytest.skip("chromium is not installed: nobody looked at the pages")
    with Browser(tmp_path_factory.mktemp("profile")) as window:
        yield window


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


def written(folder: Path, source: str) -> Path:
    path = folder / f"{abs(hash(source))}.html"
    path.write_text(source, encoding="utf-8")
    return path


def picture(browser: Browser, selector: str = "#stage") -> np.ndarray:
    """What is on the screen there, (H, W, 3)."""
    screen = np.asarray(Image.open(io.BytesIO(browser.screenshot())).convert("RGB"))
    corners = f"(b => [b.left, b.top, b.right, b.bottom])(document.querySelector('{selector}').getBoundingClientRect())"
    box = browser.value(corners)
    left, top, right, bottom = (max(0, int(edge)) for edge in box)
    return screen[top:bottom, left:right]


def pixels(shot: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(shot.astype(int) - colour).max(-1) < 12).sum())


def frame(browser: Browser) -> int:
    return int(browser.value("document.getElementById('frame').value"))


def seek(browser: Browser, number: int) -> None:
    choose(browser, "frame", str(number), "input")


def choose(browser: Browser, control: str, value: str, event: str = "change") -> None:
    browser.value(f"document.getElementById('{control}').value = '{value}'")
    browser.value(f"document.getElementById('{control}').dispatchEvent(new Event('{event}'))")
    settle(browser)


def settle(browser: Browser) -> None:
    """Until two more pictures were drawn."""
    browser.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")


def test_play_moves_the_picture_and_pause_stops_it(browser: Browser, folder: Path) -> None:
    browser.open(written(folder, clip_page(shown(two_persons(), HEADER))))
    first = picture(browser)
    assert pixels(first, GREEN) > 300 and pixels(first, PINK) > 300
    settle(browser)
    assert np.array_equal(picture(browser), first)
    browser.click("#play")
    browser.wait_until("document.getElementById('frame').value > 8")
    assert (picture(browser) != first).any(-1).sum() > 500
    browser.click("#play")
    stopped = frame(browser)
    settle(browser)
    assert frame(browser) == stopped
    assert browser.complaints == [] and len(browser.requests) == 1


def test_the_picture_turns_by_mouse_and_keys_and_comes_back(browser: Browser, folder: Path) -> None:
    browser.open(written(folder, clip_page(shown(two_persons(), HEADER))))
    first = picture(browser)
    x, y = browser.middle("#stage")
    browser.drag((x, y), (x + 120, y + 30))
    settle(browser)
    dragged = picture(browser)
    assert (dragged != first).any()
    browser.value("document.getElementById('stage').focus()")
    browser.key("ArrowLeft")
    settle(browser)
    assert (picture(browser) != dragged).any() and frame(browser) == 0
    browser.send("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-400)
    browser.wait_until("true")
    settle(browser)
    larger = picture(browser)
    browser.click("#reset")
    browser.value("document.activeElement.blur()")
    settle(browser)
    assert np.array_equal(picture(browser), first)
    assert pixels(larger, GREEN) > 1.3 * pixels(first, GREEN)


def test_two_fingers_zoom(browser: Browser, folder: Path) -> None:
    browser.open(written(folder, clip_page(shown(two_persons(), HEADER))))
    first = picture(browser)
    x, y = browser.middle("#stage")
    for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 90)):
        points = [{"x": x - apart, "y": y, "id": 1}, {"x": x + apart, "y": y, "id": 2}]
        browser.send("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    browser.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    settle(browser)
    assert pixels(picture(browser), GREEN) > 1.2 * pixels(first, GREEN)


def test_the_keyboard_is_enough(browser: Browser, folder: Path) -> None:
    browser.open(written(folder, clip_page(shown(two_persons(), HEADER))))
    browser.key(".")
    browser.key(".")
    browser.key(",")
    settle(browser)
    assert frame(browser) == 1
    browser.key(" ")
    browser.wait_until("document.getElementById('frame').value > 4")
    browser.key(" ")
    assert browser.value("document.getElementById('play-word').textContent") == "Play"
    reached = []
    for _ in range(13):
        browser.key("Tab")
        reached.append(browser.value("document.activeElement.id || document.activeElement.name"))
    assert {"stage", "frame", "play", "back", "forth", "speed", "up", "reset", "mask", "energy"} <= set(reached)
    browser.value("document.getElementById('frame').focus()")
    browser.key("Home")
    browser.key("ArrowRight")
    settle(browser)
    assert frame(browser) == 1
    said = browser.value("document.getElementById('frame').getAttribute('aria-valuetext')")
    assert said == "frame 1 of 39"


def test_masks_and_energy_are_drawn_over_the_clip(browser: Browser, folder: Path) -> None:
    found = shown(two_persons(), HEADER)
    browser.open(written(folder, clip_page(found)))
    kept = int(np.flatnonzero(~found.masks[0].frames & ~found.masks[1].frames)[0])
    seek(browser, kept)
    plain = picture(browser)
    assert pixels(plain, BLUE) == pixels(plain, VERMILION) == 0
    browser.click("input[value='1']")
    settle(browser)
    assert pixels(picture(browser), BLUE) > 100
    browser.key("m")
    settle(browser)
    assert pixels(picture(browser), VERMILION) > 100 and pixels(picture(browser), BLUE) == 0
    lost = int(np.flatnonzero(found.masks[1].frames)[0])
    seek(browser, lost)
    assert pixels(picture(browser), GREEN) < 50  # the body is pale where the encoder loses the frame
    browser.key("m")
    seek(browser, int(found.energy.argmax()))
    before = pixels(picture(browser), ORANGE)
    browser.click("#energy")
    settle(browser)
    assert pixels(picture(browser), ORANGE) > before + 30


def test_the_curve_marks_the_frame_and_leads_to_others(browser: Browser, folder: Path) -> None:
    browser.open(written(folder, clip_page(shown(two_persons(), HEADER))))
    browser.click("#curve")
    settle(browser)
    assert frame(browser) in (19, 20)
    curve = picture(browser, "#curve")
    marked = np.flatnonzero((np.abs(curve.astype(int) - ORANGE).max(-1) < 12).sum(0) > 20)
    assert abs(marked.mean() - curve.shape[1] / 2) < 0.03 * curve.shape[1]
    assert pixels(curve, BLUE) > 40 and pixels(curve, VERMILION) > 40


def test_another_axis_can_be_up(browser: Browser, folder: Path) -> None:
    lying = changed(CLIPS[0], lambda data: np.stack([data[..., 0], -data[..., 2], data[..., 1]], -1))
    shots = []
    for clip, up in ((CLIPS[0], "y"), (lying, "z")):
        browser.open(written(folder, clip_page(shown(clip, HEADER))))
        choose(browser, "up", up)
        shots.append(picture(browser))
    assert (np.abs(shots[0].astype(int) - shots[1]).max(-1) > 40).mean() < 0.002


@pytest.mark.parametrize("dark", [False, True])
def test_pictures_play_in_the_dark_too(browser: Browser, folder: Path, dark: bool) -> None:
    skeleton = Skeleton.builtin("coco17")
    rng = np.random.default_rng(0)
    data = np.concatenate([rng.uniform(100, 900, (12, 17, 2)), rng.uniform(0, 1, (12, 17, 1))], -1).astype(np.float32)
    clip = Clip("flat", 12, (Track(0, 0, data),))
    browser.open(written(folder, clip_page(shown(clip, Header("2D", skeleton, "xys", ())))), dark=dark)
    ground = picture(browser)[5, 5]
    assert (ground < 80).all() if dark else (ground > 200).all()
    first = picture(browser)
    browser.click("#play")
    browser.wait_until("document.getElementById('frame').value > 3")
    assert (picture(browser) != first).any(-1).sum() > 500
    assert browser.complaints == []


def test_narrow_screens_need_no_sideways_scrolling(browser: Browser, folder: Path) -> None:
    for source in (clip_page(shown(two_persons(), HEADER)), doctor_page(examine(with_faults()), with_faults())):
        browser.open(written(folder, source), width=360, height=700)
        assert browser.value("document.documentElement.scrollWidth") <= 360


def test_names_cannot_run_anything(browser: Browser, folder: Path) -> None:
    clip = replace(two_persons(EVIL), splits=(EVIL,), source=EVIL)
    skeleton = replace(HEADER.skeleton, names=(EVIL, *HEADER.skeleton.names[1:]), name=EVIL)
    header = Header(EVIL, skeleton, "xyz", (EVIL, EVIL))
    source = with_faults(EVIL)
    for page in (clip_page(shown(clip, header)), doctor_page(examine(source), source)):
        browser.open(written(folder, page))
        settle(browser)
        assert browser.value("document.title") != "run" and browser.value("document.title").startswith(EVIL)
        assert browser.value("document.querySelectorAll('img, script:not([type]):not(:last-of-type)').length") == 0
        assert browser.complaints == [] and len(browser.requests) == 1
        # Nor could it if it were not escaped.
        browser.value("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">')")
        settle(browser)
        assert browser.value("document.title") != "1"


def test_the_doctors_page_opens_and_closes_without_a_script(browser: Browser, folder: Path) -> None:
    source = with_faults()
    page = doctor_page(examine(source), source)
    assert "<script" not in page
    browser.open(written(folder, page), height=2400)
    warning = "details:not([open])"
    assert browser.value("document.querySelectorAll('details[open]').length") >= 3
    closed = browser.value(f"document.querySelectorAll('{warning}').length")
    browser.click(f"{warning} > summary")
    assert browser.value(f"document.querySelectorAll('{warning}').length") == closed - 1
    assert browser.complaints == [] and len(browser.requests) == 1


def test_the_doctors_page_says_what_was_found() -> None:
    source = with_faults()
    diagnosis = examine(source)
    text = doctor_page(diagnosis, source)
    page = Page(text)
    assert {"label-range", "no-body", "unreadable", "split-overlap", "teleport", "duplicate-name"} <= {
        finding.fault.name for finding in diagnosis.findings
    }
    for finding in diagnosis.findings:
        assert finding.fault.name in page.text and finding.fault.advice in page.text
    assert diagnosis.verdict in page.text
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "a", "img"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert name not in ("src", "href", "srcset", "action") and not name.startswith("on"), (tag, name, value)
    pictures = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]
    titles = [svg.get("aria-label", "") for svg in pictures]
    assert all(svg.get("role") == "img" for svg in pictures) and all(titles)
    assert sum("Skeleton of" in title for title in titles) >= 4
    assert any("Clips of each class" in title for title in titles)
    # The joint that jumps has a ring, the frame before is behind it.
    (jump,) = [
        svg for svg, title in zip(pictures, titles, strict=True) if re.fullmatch("Skeleton of a, frame (9|10)", title)
    ]
    marks = [element.get("class", "") for element in jump.iter()]
    assert marks.count("mark") == 1 and any("before" in mark for mark in marks)


def test_the_doctors_page_of_a_set_without_clips_or_faults() -> None:
    empty = Listed(HEADER, {})
    assert "not one clip came out" in doctor_page(examine(empty), empty)
    clean = Listed(HEADER, {"part": list(CLIPS)})
    assert "Nothing was found." in doctor_page(examine(clean), clean)


def test_the_doctors_page_of_many_subjects_and_classes_stays_small() -> None:
    tracks = (Track(0, 0, np.zeros((1, 25, 3), np.float32)),)
    clips: list[Entry] = [Clip(f"c{i}", 1 + i % 300, tracks, i % 120, i, i % 5) for i in range(3000)]
    source = Listed(replace(HEADER, classes=tuple(f"class {i}" for i in range(120))), {"part": clips})
    text = doctor_page(examine(source), source)
    assert len(text) < 200_000 and "Clips by their subject" in text and "class 119" in text


def test_names_in_the_doctors_page_are_text() -> None:
    source, harmless = with_faults(EVIL), with_faults()
    page, plain = (Page(doctor_page(examine(each), each)) for each in (source, harmless))
    assert page.tags == plain.tags and page.text.count(EVIL) >= 12


def test_text_can_be_read_in_both_schemes() -> None:
    """Contrast of at least 4.5 for text and 3 for lines and dots (WCAG 2.2, 1.4.3 and 1.4.11)."""

    def brightness(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = STYLE.split("@media (prefers-color-scheme: dark)")
    for scheme in (light, dark):
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", scheme.lower()))
        pairs = [(text, paper, 4.5) for text in ("ink", "muted") for paper in ("paper", "ground", "soft")]
        pairs += [(kind, f"{kind}-soft", 4.5) for kind in ("error", "warning", "note", "good")]
        pairs += [(line, "paper", 3) for line in ("blue", "vermilion", *(f"person-{n}" for n in range(4)))]
        for text, paper, least in pairs:
            high, low = sorted((brightness(colours[text]), brightness(colours[paper])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= least, (text, paper)
