"""Draw docs/data_doctor.png and docs/data_show.png, from the root: ``python docs/make_page_pictures.py``.

Needs Debian's chromium, and what the tests need.
"""

from __future__ import annotations

import io
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import Browser  # noqa: E402
from sources import Listed, by_subject, changed, entries_of, header_of  # noqa: E402

from asma.data import builtin_clips  # noqa: E402
from asma.data.source import Clip, LeftOut, Track  # noqa: E402
from asma.doctor.page import doctor_page  # noqa: E402
from asma.doctor.survey import examine  # noqa: E402
from asma.show.clip import shown  # noqa: E402
from asma.show.page import clip_page  # noqa: E402

COLOURS = 256
WIDTH = 1180


def jump(data: np.ndarray) -> None:
    data[20:22, [10, 11, 23, 24]] += np.float32([0.9, 1.3, 0.8])


def lose(data: np.ndarray) -> None:
    data[7, 3, 1] = np.nan


def damaged() -> Listed:
    """The built-in set with a few faults."""
    made = builtin_clips()
    clips = entries_of(made, by_subject)
    for place, change in ((3, jump), (77, jump), (209, jump), (5, lose)):
        clips[place] = changed(clips[place], change)
    clips[40] = changed(clips[40], lambda data: data * np.float32([1, -1, 1]))
    for place in (60, 61, 62):
        side = "xsub_train" if clips[place].splits == ("xsub_val",) else "xsub_val"
        clips.append(replace(clips[place], name=f"{clips[place].name} again", splits=(side,)))
    lost = LeftOut("S003C001P002R002A013.skeleton", "line 7: the number of bodies must be in [0, 64], got -3")
    header = replace(header_of(made, usual_split="xsub_train/xsub_val"), title="My recordings")
    return Listed(header, {"recordings": [*clips, lost]})


def two_persons() -> tuple[Clip, Listed]:
    made = builtin_clips()
    source = Listed(header_of(made), {})
    clips = {clip.name: clip for clip in entries_of(made)}
    first, second = clips["a09_s01_r01_v02"], clips["a03_s02_r01_v02"]
    frames = min(first.frames, second.frames)
    beside = second.tracks[0].data[:frames] + np.float32([1.1, 0, 0.2])
    tracks = (Track(0, 0, first.tracks[0].data[:frames]), Track(1, 0, beside))
    return replace(first, name="two persons", frames=frames, tracks=tracks), source


def picture(browser: Browser, page: str, folder: Path, height: int, *clicks: str, frame: int = 0) -> bytes:
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    browser.open(file, WIDTH, height)
    for selector in clicks:
        browser.click(selector)
    if frame:
        browser.value(f"document.getElementById('frame').value = {frame}")
        browser.value("document.getElementById('frame').dispatchEvent(new Event('input'))")
    browser.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
    buffer = io.BytesIO()
    shot = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
    shot.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def main() -> None:
    with tempfile.TemporaryDirectory() as name, Browser(Path(name) / "profile") as browser:
        folder, source = Path(name), damaged()
        page = doctor_page(examine(source), source)
        # Errors are open, warnings closed: the other way round shows a skeleton with a mark.
        turned = [f"details:nth-of-type({number}) > summary" for number in (1, 4, 5)]
        shot = picture(browser, page, folder, 1150, *turned)
        (ROOT / "docs/data_doctor.png").write_bytes(shot)
        clip, listed = two_persons()
        page = clip_page(shown(clip, listed.header, seed=3))
        shot = picture(browser, page, folder, 960, "input[value='2']", "#energy", frame=30)
        (ROOT / "docs/data_show.png").write_bytes(shot)


if __name__ == "__main__":
    main()
