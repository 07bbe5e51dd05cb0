"""A clip as one HTML page that plays it, without a network."""

from __future__ import annotations

import base64
import json
from html import escape
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..data.anatomy import anatomy
from ..page import page
from .clip import ShownClip

__all__ = ["clip_page"]

STEP = 1e-4
"""Of the page's coordinates, in the unit of the clip: 0.1 mm where that is the metre."""
LARGEST = 32767
GONE = -32768
"""Stands for a joint that is not known."""
COLOURS = 4
"""Persons of a colour of their own; the fifth has the first one's."""
KEYS = (
    ("Space", "play and pause"), (", .", "a frame back and forth"), ("← → ↑ ↓", "turn, with the picture in focus"),
    ("+ −", "larger and smaller"), ("0", "first view"), ("m", "the next mask"), ("e", "motion energy of joints"),
)  # fmt: skip


def clip_page(shown: ShownClip, frames_per_second: float = 30.0) -> str:
    """The page; the same clip gives the same page.

    Coordinates are in steps of 0.1 mm (1e-4 of the clip's unit), or of 1/32767 of half of the clip's extent where that
    is coarser, or where all of it is smaller than 1000 of these steps.
    """
    code = files("asma.show")
    script, style = ((code / f"player.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))
    data, step = _steps(shown.data[..., : 2 if shown.flat else 3])
    content = {
        "frames": shown.clip.frames,
        "rate": frames_per_second,
        "persons": list(shown.persons),
        "joints": list(shown.header.skeleton.names),
        "edges": [list(edge) for edge in shown.header.skeleton.edges],
        "heads": head if len(head := anatomy(shown.header.skeleton).head) == 1 else [],
        "flat": shown.flat,
        "data": data,
        "jointEnergy": _shares(np.sqrt(shown.joint_energy)),
        "energy": [float(f"{value:.4g}") for value in shown.energy],
        "masks": [
            {"joints": np.flatnonzero(mask.joints).tolist(), "frames": np.flatnonzero(mask.frames).tolist()}
            for mask in shown.masks
        ],
    }
    if shown.flat:
        content["scores"] = _shares(np.nan_to_num(shown.data[..., 2]).clip(0, 1), most=1)
    body = BODY.format(
        name=escape(shown.clip.name) or "a clip without a name",
        facts="".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in shown.facts.items()
        ),
        people="".join(
            f'<li><span class="dot p{row % COLOURS}"></span>person {person}</li>'
            for row, person in enumerate(shown.persons)
        ),
        last=shown.clip.frames - 1,
        up="" if shown.flat else UP,
        masks="".join(
            f'<label><input type="radio" name="mask" value="{number}"><span class="dot e{number}"></span>'
            f"encoder {number}</label>"
            for number in (1, 2)
        ),
        drag="drag to move it" if shown.flat else "drag to turn it",
        finger="moves" if shown.flat else "turns",
        what=" ".join(f"{escape(mask.title)}." for mask in shown.masks),
        keys="".join(f"<li>{_keys(keys)} {escape(meaning)}</li>" for keys, meaning in KEYS),
        step=f"{step:.2g}",
        source=f"Read from {escape(shown.clip.source)}." if shown.clip.source else "",
        version=escape(__version__),
        # A name that ends the element would otherwise be a script.
        content=json.dumps(content).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"),
    )
    return page(f"{shown.clip.name} · {shown.header.title}", body, style, script)


def _steps(data: NDArray[np.float32]) -> tuple[str, float]:
    """(M, T, V, D) around its middle as int16, and the size of a step."""
    known = np.isfinite(data).all(-1)
    if not known.any():
        return base64.b64encode(np.full(data.shape, GONE, "<i2").tobytes()).decode(), STEP
    points = data[known].astype(np.float64)
    middle = (points.min(0) + points.max(0)) / 2
    half = max(float(np.abs(points - middle).max()), float(np.finfo(np.float32).tiny))
    step = STEP if 1000 * STEP <= half <= LARGEST * STEP else half / LARGEST
    steps = np.full(data.shape, GONE, "<i2")
    steps[known] = np.rint((points - middle) / step).clip(-LARGEST, LARGEST)
    return base64.b64encode(steps.tobytes()).decode(), step


def _shares(values: NDArray[np.float32], most: float = 0) -> str:
    """Values from 0 as shares of the largest, in 255 steps."""
    most = most or float(values.max(initial=0)) or 1
    return base64.b64encode(np.rint(255 * (values / most)).astype(np.uint8).tobytes()).decode()


def _keys(keys: str) -> str:
    return " ".join(f"<kbd>{escape(key)}</kbd>" for key in keys.split(" "))


UP = """<label>Up is <select id="up"><option value="y">y</option><option value="-y">−y</option>
<option value="z">z</option></select></label>"""

BODY = """<header>
<h1>{name}</h1>
<dl class="facts">{facts}</dl>
</header>
<main>
<section class="player" aria-label="Player">
<canvas id="stage" tabindex="0" role="application"
 aria-label="The clip as moving skeletons; {drag}, the arrow keys do the same"></canvas>
<div class="below">
<canvas id="curve" role="img"
 aria-label="Motion energy of each frame, and below it the frames that each encoder drops"></canvas>
<input id="frame" type="range" min="0" max="{last}" value="0" step="1" aria-label="Frame">
<div class="row">
<button id="play" type="button"><span id="play-sign" aria-hidden="true">▶</span><span
 id="play-word">Play</span></button>
<button id="back" type="button" aria-label="A frame back">◂</button>
<button id="forth" type="button" aria-label="A frame forth">▸</button>
<label>Speed <select id="speed"><option value="0.1">× 0.1</option><option value="0.25">× 0.25</option>
<option value="0.5">× 0.5</option><option value="1" selected>× 1</option><option value="2">× 2</option>
<option value="4">× 4</option></select></label>
{up}
<button id="reset" type="button">First view</button>
<output id="time" for="frame" aria-live="off"></output>
</div>
<div class="row">
<fieldset><legend>Masks</legend>
<label><input type="radio" name="mask" value="0" checked>none</label>{masks}</fieldset>
<label><input type="checkbox" id="energy"><span class="dot moved"></span>motion energy of joints</label>
<ul class="people" aria-label="Colours of persons">{people}</ul>
</div>
</div>
</section>
<section>
<h2>What is shown</h2>
<p>The curve is the motion energy of each frame on a square-root scale; the marks below it are the frames that each
encoder of ASMa drops in training. {what} Dropped joints are open circles and their bones are dotted. A joint's motion
energy is the size of its orange disc.</p>
<ul class="help">{keys}</ul>
<p>Mouse: {drag}, the wheel zooms. Touch: one finger {finger}, two zoom. Coordinates are rounded to {step} of the clip's
unit. {source}</p>
</section>
</main>
<noscript><p>This page needs JavaScript to play the clip.</p></noscript>
<footer>Made by asma data show, asma {version}. This page is one file.</footer>
<script type="application/json" id="clip">{content}</script>"""
