"""Pages and pictures of one clip: what they hold, which clip they show, and what they refuse."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sources import Entry, Listed, entries_of, header_of, small_set

import asma_kernels
from asma.data.source import Clip, Header, LeftOut, Track
from asma.extras import MissingExtraError
from asma.show import pictures
from asma.show.clip import find_clip, shown
from asma.show.command import Show, run_show
from asma.show.page import clip_page
from asma.show.pictures import clip_gif, clip_strip
from asma_kernels import Skeleton

SET = small_set()
CLIPS = entries_of(SET)
HEADER = header_of(SET)
EVIL = "</script><script>document.title='run'</script><img src=x onerror=alert(1)>\"'&"


def two_persons() -> Clip:
    """The first from frame 0 to 29, the second from 10 to 39; nobody in the last five of 45."""
    first, second = (CLIPS[i].tracks[0].data[:30] for i in (0, 9))
    tracks = Track(0, 0, first), Track(4, 10, second + np.array([1, 0, 0], np.float32))
    return Clip("two", 45, tracks, 1, 2, 3, ("xsub_train",), "folder/two.npz")


def flat(layout: str) -> tuple[Clip, Header]:
    """A clip in pixels with scores."""
    skeleton = Skeleton.builtin(layout)
    rng = np.random.default_rng(0)
    data = rng.uniform(0, 500, (20, skeleton.num_joints, 3)).astype(np.float32)
    data[..., 2] = rng.uniform(0, 1, data.shape[:2])
    return Clip("flat", 20, (Track(0, 0, data),)), Header("pictures", skeleton, "xys", ())


class Page(HTMLParser):
    """Tags, their attributes and texts of a page, and the clip that it carries."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.pieces: list[str] = []
        self.feed(source)
        (content,) = re.findall(r'<script type="application/json" id="clip">(.*?)</script>', source, re.DOTALL)
        self.clip = json.loads(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    def steps(self) -> np.ndarray:
        """(M, T, V, C) int16."""
        shape = len(self.clip["persons"]), self.clip["frames"], len(self.clip["joints"]), 2 if self.clip["flat"] else 3
        return np.frombuffer(base64.b64decode(self.clip["data"]), "<i2").reshape(shape)


def test_the_page_needs_nothing_from_elsewhere() -> None:
    source = clip_page(shown(two_persons(), HEADER))
    page = Page(source)
    assert source.startswith("<!doctype html>") and source.rstrip().endswith("</html>")
    assert not {"link", "iframe", "object", "embed", "base", "form", "a", "img"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert name not in ("src", "href", "srcset", "action", "data") and not name.startswith("on"), (tag, name)
        assert "http:" not in value and "https:" not in value
    assert "url(" not in source and "@import" not in source
    assert "default-src 'none'" in source and "sha256-" in source
    assert clip_page(shown(two_persons(), HEADER)) == source


def test_every_control_has_a_name() -> None:
    source = clip_page(shown(two_persons(), HEADER))
    for tag in re.findall(r"<(?:canvas|input|select|button)[^>]*>", source):
        labelled = "aria-label=" in tag or 'id="play"' in tag or 'id="reset"' in tag
        wrapped = f"<label>{tag}" in source or f"<label>Speed {tag}" in source or f"<label>Up is {tag}" in source
        assert labelled or wrapped, tag
    assert 'lang="en"' in source and "<noscript>" in source


def test_coordinates_are_in_tenths_of_millimetres() -> None:
    clip = two_persons()
    page = Page(clip_page(shown(clip, HEADER)))
    steps = page.steps()
    assert page.clip["persons"] == [0, 4]
    for row, track in enumerate(clip.tracks):
        here = np.zeros(clip.frames, np.bool_)
        here[track.start : track.start + len(track.data)] = True
        assert (steps[row, ~here] == -32768).all() and (steps[row, here] > -32768).all()
    # All coordinates are shifted together, so differences between joints and persons stay.
    first, second = clip.tracks
    found = (steps[1, 12].astype(float) - steps[0, 12, :1]) * 1e-4
    assert np.abs(found - (second.data[2] - first.data[12, :1])).max() <= 1.01e-4
    assert "rounded to 0.0001 of" in "".join(page.pieces)


@pytest.mark.parametrize("scale", [1e-6, 0.02, 1.0, 1000.0, 1e30])
def test_any_unit_is_shown_to_a_thousandth(scale: float) -> None:
    data = CLIPS[0].tracks[0].data * np.float32(scale)
    steps = Page(clip_page(shown(replace(CLIPS[0], tracks=(Track(0, 0, data),)), HEADER))).steps()[0].astype(float)
    extent = np.ptp(data.reshape(-1, 3).astype(float), axis=0)
    assert np.allclose(np.ptp(steps.reshape(-1, 3), axis=0) / extent * extent.max(), np.ptp(steps[..., 1]), rtol=2e-3)
    assert np.abs(steps).max() > 1000


def test_masks_and_energy_are_those_of_the_ops() -> None:
    clip = CLIPS[3]
    found = shown(clip, HEADER, seed=5)
    data = clip.tracks[0].data
    x = torch.from_numpy(np.ascontiguousarray(data.transpose(2, 0, 1)))[None, ..., None]
    energy = asma_kernels.motion_energy(x, "frame")
    assert np.allclose(found.energy, energy[0], rtol=1e-5)
    assert np.allclose(found.joint_energy[0], asma_kernels.motion_energy(x, "frame_joint")[0])
    page = Page(clip_page(found))
    drop = clip.frames // 5  # 10 of 50, as in training
    for mask, which, degree in zip(page.clip["masks"], ("low", "high"), ("high", "low"), strict=True):
        kept = asma_kernels.frame_mask(torch.from_numpy(found.energy)[None], drop, which)[0].tolist()
        assert sorted([*mask["frames"], *kept]) == list(range(clip.frames))
        assert len(mask["joints"]) == 8
        assert f"8 {degree}-degree joints and {drop} {which}-motion frames" in "".join(page.pieces)
    assert shown(clip, HEADER, seed=6).masks[0].joints.tolist() != found.masks[0].joints.tolist()


def test_who_enters_does_not_count_as_motion() -> None:
    still = np.ones((10, 25, 3), np.float32) * np.arange(25, dtype=np.float32)[:, None]
    clip = Clip("a", 20, (Track(0, 0, still), Track(0, 14, still[:6] + 3), Track(1, 5, still)))
    assert not shown(clip, HEADER).energy.any()


@pytest.mark.parametrize("layout", Skeleton.layouts())
def test_every_layout_is_drawn_in_both_kinds_of_coordinates(layout: str) -> None:
    clip, header = flat(layout)
    for channels in ("xyz", "xys"):
        page = Page(clip_page(shown(clip, replace(header, channels=channels))))
        assert page.clip["flat"] == (channels == "xys") and ("scores" in page.clip) == page.clip["flat"]
        assert len(page.clip["edges"]) == len(header.skeleton.edges)
        assert ("up" in [value for _, name, value in page.attributes if name == "id"]) == (channels == "xyz")


def test_names_from_the_data_are_text() -> None:
    skeleton = Skeleton.from_edges([(0, 1)], names=[EVIL, "b"])
    header = Header(EVIL, replace(skeleton, name=EVIL), "xyz", (EVIL,))
    clip = Clip(EVIL, 2, (Track(0, 0, np.ones((2, 2, 3), np.float32)),), 0, 1, 2, (EVIL,), EVIL)
    page = Page(clip_page(shown(clip, header)))
    harmless = Page(clip_page(shown(replace(clip, name="n", splits=("s",), source="s"), replace(header, title="t"))))
    assert page.tags == harmless.tags and page.clip["joints"][0] == EVIL
    assert "".join(page.pieces).count(EVIL) >= 6


@pytest.mark.parametrize(
    "clip",
    [
        Clip("nobody", 3, ()),
        Clip("one frame", 1, (Track(0, 0, np.ones((1, 25, 3), np.float32)),)),
        Clip("all joints at one place", 4, (Track(0, 0, np.full((4, 25, 3), 7, np.float32)),)),
        Clip("NaN", 4, (Track(0, 0, np.where(np.arange(4) == 2, np.nan, 1).repeat(75).reshape(4, 25, 3)),)),
        Clip("huge", 2, (Track(0, 0, np.linspace(-3e38, 3e38, 150, dtype=np.float32).reshape(2, 25, 3)),)),
        Clip("five", 2, tuple(Track(m, 0, np.full((2, 25, 3), m, np.float32)) for m in range(5))),
        Clip("$x$ \\frac \x00\x1b ünïcödé 跳", 2, (Track(0, 0, np.ones((2, 25, 3), np.float32)),)),
    ],
    ids=lambda clip: clip.name.split(" ")[0],
)
@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")  # DejaVu has no Chinese
def test_strange_clips_are_drawn(clip: Clip) -> None:
    found = shown(clip, HEADER)
    assert json.dumps(Page(clip_page(found)).clip, allow_nan=False)
    assert Image.open(io.BytesIO(clip_strip(found))).width > 1000
    assert getattr(Image.open(io.BytesIO(clip_gif(found))), "n_frames", 1) <= clip.frames


def test_a_gif_plays_all_frames_at_their_speed() -> None:
    found = shown(two_persons(), HEADER)
    picture = Image.open(io.BytesIO(clip_gif(found, frames_per_second=20)))
    duration = 0
    frames = []
    for frame in range(picture.n_frames):
        picture.seek(frame)
        duration += picture.info["duration"]
        frames.append(np.asarray(picture.convert("RGB")))
    assert picture.info["loop"] == 0 and duration == 45 * 50
    assert len(frames) > 35 and all((one != other).any() for one, other in zip(frames, frames[1:], strict=False))
    # Both persons' colours, and both encoders'.
    colours = {tuple(colour) for colour in frames[15].reshape(-1, 3).tolist()}
    assert {(0x1B, 0x7F, 0x5C), (0xB0, 0x53, 0x8C), (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colours


def test_a_long_gif_is_thinned_and_plays_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_FRAMES", 30)
    data = np.random.default_rng(0).normal(size=(90, 25, 3)).astype(np.float32)
    picture = Image.open(io.BytesIO(clip_gif(shown(Clip("long", 90, (Track(0, 0, data),)), HEADER))))
    assert picture.n_frames == 30 and picture.info["duration"] == 100


def test_nobody_is_cut_off_and_a_lost_joint_does_not_make_bodies_small() -> None:
    """Who jumps in the last two frames stays on paper; a joint that is 50 m away in one frame need not be."""
    data = CLIPS[0].tracks[0].data.copy()
    data[-2:, :, 1] += 0.6
    paper = pictures._paper(shown(replace(CLIPS[0], tracks=(Track(0, 0, data),)), HEADER))
    assert np.abs(paper).max() == pytest.approx(1)
    data[7, 11] = 50
    lost = pictures._paper(shown(replace(CLIPS[0], tracks=(Track(0, 0, data),)), HEADER))
    others = np.delete(lost, 7, axis=1)
    np.testing.assert_allclose(np.ptp(others[..., 1]), np.ptp(np.delete(paper, 7, axis=1)[..., 1]), rtol=0.05)


def test_a_strip_is_the_same_each_time() -> None:
    found = shown(two_persons(), HEADER)
    assert clip_strip(found) == clip_strip(found)


def test_a_clip_is_found_by_name_or_number() -> None:
    numbered = replace(CLIPS[7], name="3")
    parts: dict[str, list[Entry]] = {"a": list(CLIPS[:3]), "b": [*CLIPS[3:7], numbered], "c": list(CLIPS[8:])}
    source = Listed(HEADER, parts)
    assert find_clip(source, CLIPS[10].name).name == CLIPS[10].name
    assert find_clip(source, "0").name == CLIPS[0].name
    assert find_clip(source, "9").name == CLIPS[9].name
    assert find_clip(source, "3").name == "3"  # a name goes before a number
    assert find_clip(Listed(HEADER, {"a": list(CLIPS)}), "3").name == CLIPS[3].name


def test_a_clip_of_a_file_is_found_without_reading_the_others() -> None:
    read = []

    class Counting(Listed):
        def read(self, part: str):  # type: ignore[no-untyped-def]
            read.append(part)
            return super().read(part)

    source = Counting(HEADER, {f"folder/{clip.name}.skeleton": [clip] for clip in CLIPS})
    assert find_clip(source, CLIPS[20].name).name == CLIPS[20].name
    assert read == [f"folder/{CLIPS[20].name}.skeleton"]


def test_a_clip_that_is_not_there_is_told_what_is() -> None:
    parts: dict[str, list[Entry]] = {"a": list(CLIPS), "bad.skeleton": [LeftOut("bad.skeleton", "line 7: no")]}
    source = Listed(HEADER, parts)
    name = CLIPS[4].name
    with pytest.raises(ValueError, match=f"no clip is called '{name}x', others are '{name}'"):
        find_clip(source, f"{name}x")
    with pytest.raises(ValueError, match=r"number must be in \[0, 24\), got 24"):
        find_clip(source, "24")
    with pytest.raises(ValueError, match="clip 'bad' cannot be read: bad.skeleton: line 7: no"):
        find_clip(source, "bad")
    with pytest.raises(ValueError, match="clip 'gone' cannot be read: gone.npz: cut off"):
        find_clip(Listed(HEADER, {"gone.npz": [ValueError("gone.npz: cut off")]}), "gone")
    with pytest.raises(ValueError, match="number must be"):
        find_clip(Listed(HEADER, {}), "0")


@pytest.mark.parametrize("kind", ["html", "gif", "png"])
def test_the_command_writes_one_file(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / f"clip.{kind}"
    run_show(Show(Path("x"), out, clip="2"), lambda path, format: Listed(HEADER, {"part": list(CLIPS)}))
    assert [path.name for path in tmp_path.iterdir()] == [out.name] and out.stat().st_size > 1000
    assert CLIPS[2].name in capsys.readouterr().out


def test_the_options_are_those_of_a_command_line(tmp_path: Path) -> None:
    options = tyro.cli(Show, args=["set.npz", "--clip", "a b", "--out", str(tmp_path / "a.gif")])
    assert (options.source, options.clip, options.frames_per_second) == (Path("set.npz"), "a b", 30)


def test_the_command_refuses_before_it_reads(tmp_path: Path) -> None:
    there = tmp_path / "there.png"
    there.write_text("x")
    for options, error, words in (
        ({"out": there}, FileExistsError, "exists already"),
        ({"out": tmp_path / "clip.mp4"}, ValueError, "must end in .html, .gif, .png"),
        ({"out": tmp_path / "no" / "clip.png"}, FileNotFoundError, "not a folder"),
        ({"out": tmp_path / "a.png", "frames_per_second": 0.0}, ValueError, "frames_per_second must be positive"),
        ({"out": tmp_path / "a.png", "frames_per_second": float("nan")}, ValueError, "must be positive"),
        ({"out": tmp_path / "a.png", "seed": -1}, ValueError, "seed must be in"),
    ):
        with pytest.raises(error, match=words):
            Show(Path("x"), **options)  # type: ignore[arg-type]
    assert there.read_text() == "x"


def test_a_missing_package_ends_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    found = shown(CLIPS[0], HEADER)
    for module in ("matplotlib", "matplotlib.figure", "PIL.Image"):
        monkeypatch.setitem(sys.modules, module, None)
    assert clip_page(found)
    for draw in (clip_strip, clip_gif):
        with pytest.raises(MissingExtraError, match="pip install"):
            draw(found)


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_any_clip_becomes_a_page(data: st.DataObject) -> None:
    values = st.sampled_from([0.0, 1.0, -2.5, 1e-30, 3e38, float("inf"), float("nan")])
    T = data.draw(st.integers(1, 5))
    tracks = []
    for person in range(data.draw(st.integers(0, 3))):
        start = data.draw(st.integers(0, T - 1))
        shape = (data.draw(st.integers(1, T - start)), 3, 3)
        tracks.append(
            Track(person, start, np.resize(np.array(data.draw(st.lists(values, min_size=1)), np.float32), shape))
        )
    header = Header("any", Skeleton.from_edges([(0, 1), (1, 2)]), data.draw(st.sampled_from(["xyz", "xys"])), ())
    page = Page(clip_page(shown(Clip(data.draw(st.text()), T, tuple(tracks)), header)))
    json.dumps(page.clip, allow_nan=False)
    assert page.steps().shape[1] == T
