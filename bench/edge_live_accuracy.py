"""`python -m bench.edge_live_accuracy STUDENT CLIPS`: what a student names right when its frames come one by one.

STUDENT is a folder of `asma distill --out`, CLIPS the set it was trained on; the test clips are those of its protocol.
Each clip is repeated until a live stream's answer is full, and the answer is taken where the window begins with the
clip's first frame: at the rate of training both ways see the same motion, and what differs is what surrounds it (the
clip itself, in place of the zeros of training). Prints a table.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from asma.classifier import Classifier, load_classifier
from asma.data import Clips, open_clips
from asma.edge_file import edge_bytes

from . import edge

Frames = NDArray[np.float32]


def at_rate_of_training(clip: Frames, count: int) -> Frames:
    """A clip (T, V, 3) at `count` frames, linear between its own."""
    place = np.linspace(0, len(clip) - 1, count)
    low = place.astype(int)
    high = np.minimum(low + 1, len(clip) - 1)
    share = (place - low)[:, None, None]
    return (clip[low] * (1 - share) + clip[high] * share).astype(np.float32)


def shares(model: Classifier, clips: Clips, engine: edge.Engine) -> dict[str, float]:
    """The share of clips that are named right, in each way."""
    opened, T, kernel = engine.open(edge_bytes(model)), model.data.frames, model.first_encoder.config.kernel
    window, live, is_ = opened.start(), opened.start_live(), opened.describe_live()
    # The network's frames that count have their centres `stride` apart; the newest is `late` frames old.
    kept, late, stride = T, 0, 1
    for each in model.first_encoder.config.strides:
        late, stride = late + kernel // 2 * stride, stride * each
        kept = (kept - 1) // each + 1
    begin = is_.full - 1 - late - (kept - 1) * stride

    def live_answer(frames: Frames) -> int:
        live.reset()
        for t in range(is_.full):
            live.push(frames[(t - begin) % len(frames)][None])
        return int(live.predict().argmax())

    right: dict[str, list[bool]] = {}
    for number, label in enumerate(clips.label):
        clip = np.asarray(clips.clip(number), np.float32)
        answers = {
            "window": int(window.predict_clip(clip[:, None]).argmax()),
            f"live, clips resampled to {T} frames": live_answer(at_rate_of_training(clip, T)),
            "live, every second frame": live_answer(clip[::2]),
            "live, every frame": live_answer(clip),
        }
        for name, answer in answers.items():
            right.setdefault(name, []).append(answer == label)
    return {name: float(np.mean(each)) for name, each in right.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.edge_live_accuracy", description="window against live")
    parser.add_argument("student", help="a student's folder")
    parser.add_argument("clips", help="the set that it was trained on")
    options = parser.parse_args()
    model, _ = load_classifier(options.student)
    if model.data.pipeline != "asma" or model.data.persons != 1 or model.data.stream == "motion":
        parser.error("the student must take one person's joints or bones, prepared by the pipeline asma")
    clips = open_clips(options.clips)
    _, test = clips.split(model.data.protocol or clips.usual_split)
    shared = edge.build(edge.ROOT / "build" / "edge-shared", "-DBUILD_SHARED_LIBS=ON")
    engine = edge.Engine(shared / "csrc/edge/libasma_edge.so")
    lengths = [len(test.clip(number)) for number in range(len(test))]
    longest = f"{min(lengths)} to {max(lengths)} frames, median {np.median(lengths):.0f}"
    print(f"{len(test)} clips of {test.title}, {longest}\n\n| frames | right |\n|---|---|")
    for name, share in shares(model, test, engine).items():
        print(f"| {name} | {100 * share:.1f} % |")


if __name__ == "__main__":
    main()
