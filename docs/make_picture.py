"""Draw docs/clip_masks.png, README's picture, from the root: ``python docs/make_picture.py`` (needs ``[train]``)."""

from __future__ import annotations

from pathlib import Path

from asma.config import DataConfig, MaskConfig
from asma.data import builtin_clips
from asma.mask_picture import mask_clip, mask_figure
from asma.plots import png
from asma.prepare import prepare

CLASS = "throw"
FRAMES = 50


def main() -> None:
    clips = builtin_clips()
    which = int((clips.label == clips.classes.index(CLASS)).nonzero()[0][4])
    x = prepare(clips.subset([which]), DataConfig(frames=FRAMES, face="hips"))
    clip = x[0, ..., 0].permute(1, 2, 0).numpy()
    title = f"“{CLASS}”, {FRAMES} frames of the built-in data set"
    masked = mask_clip(clip, clips.skeleton, MaskConfig(), seed=3, title=title)
    Path(__file__).with_name("clip_masks.png").write_bytes(png(mask_figure(masked), dpi=110))


if __name__ == "__main__":
    main()
