"""One more frame of a live stream against a whole window, in the edge engine; `python -m bench.edge` calls it.

The time of the processor from a camera's frame to its answer: asma_edge_push of two persons and asma_edge_predict. A
live stream's is the mean over many frames, since what a frame costs depends on how many blocks it completes a stride
of.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from edge_engine import EVERYBODY, Engine, Stream, live_logits_of

from asma.classifier import Classifier
from asma.edge_file import edge_bytes

WANTED = {50: 20, 300: 60}
"""Frames of a window, and how many times less a frame must take; Hedegaard et al., arXiv 2203.11009."""
NEAR = 1e-5
TOGETHER = 10
"""Times the stride of all blocks: frames of one measurement."""


def measure(engine: Engine, student: Classifier, rounds: int) -> dict[int, dict[str, float]]:
    """For each window: seconds of a whole one, of a frame, and of the dearest frame; and how late an answer comes."""
    found = {}
    for window in WANTED:
        data = replace(student.data, frames=window)
        model = Classifier(list(student.encoders), student.alignment, student.head, student.classes, data).eval()
        opened = engine.open(edge_bytes(model))
        is_ = opened.describe_live()
        difference = check(model, opened.start_live(), is_.full)
        joints = model.skeleton.num_joints
        clip = np.random.default_rng(0).normal(size=(window, data.persons, joints, 3)).astype(np.float32)
        whole, live = Caller(opened.start(), clip), Caller(opened.start_live(), clip)
        for _ in range(window):
            whole.push()
        for _ in range(is_.full + 1):
            live.push()
        times: list[tuple[float, float]] = []
        dearest: list[list[float]] = [[] for _ in range(is_.stride)]
        for turn in range(rounds + 5):
            pair = whole.seconds(1), live.seconds(TOGETHER * is_.stride) / (TOGETHER * is_.stride)
            alone = [live.seconds(1) for _ in range(is_.stride)]
            if turn >= 5:
                times.append(pair)
                for seconds, each in zip(dearest, alone, strict=True):
                    seconds.append(each)
        windows, frames = zip(*times, strict=True)
        found[window] = {
            "window": statistics.median(windows),
            "frame": statistics.median(frames),
            "dearest_frame": max(statistics.median(seconds) for seconds in dearest),
            "first": is_.first,
            "stride": is_.stride,
            "difference": difference,
        }
    return found


def check(model: Classifier, live: Stream, count: int) -> float:
    """The gate: nothing is timed unless a full answer is PyTorch's. The difference."""
    shape = (model.first_encoder.config.in_channels, count, model.skeleton.num_joints, model.data.persons)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for frame in x.transpose(0, 1).numpy():
        live.push_prepared(frame)
    difference = float(np.abs(live.predict() - live_logits_of(model, x)[-1]).max())
    if not difference < NEAR:
        raise SystemExit(f"bench.edge: a live stream must agree with eager to {NEAR:g}, it differs by {difference:g}")
    return difference


class Caller:
    """Pushes the frames of a clip again and again and asks for an answer after each, with little Python between."""

    def __init__(self, stream: Stream, clip: np.ndarray) -> None:
        self.stream, self.clip, self.turn = stream, clip, 0
        self.places = [clip[t].ctypes.data for t in range(len(clip))]
        self.answer = (ctypes.c_float * stream.model.description.classes)()
        library = stream.model.engine.library
        self._push, self._predict = library.asma_edge_push, library.asma_edge_predict

    def push(self) -> int:
        self.turn = (self.turn + 1) % len(self.places)
        return self._push(self.stream.handle, self.places[self.turn], EVERYBODY, None)

    def seconds(self, frames: int) -> float:
        """Of the processor, for so many frames and answers."""
        failed = 0
        start = time.process_time()
        for _ in range(frames):
            failed |= self.push() | self._predict(self.stream.handle, self.answer, None, None)
        passed = time.process_time() - start
        if failed:
            raise SystemExit("bench.edge: the engine refused a frame or an answer")
        return passed


def rows(found: dict[Any, dict[str, float]]) -> list[tuple[str, str, str, bool]]:
    """Figure, what was found, what was wanted, and whether it was met."""
    made = []
    for window, each in found.items():
        times, wanted = each["window"] / each["frame"], WANTED[int(window)]
        text = (
            f"{1e6 * each['window']:.0f} us against {1e6 * each['frame']:.1f} us (the dearest "
            f"{1e6 * each['dearest_frame']:.0f} us): {times:.0f}x; {each['first'] - 1:.0f} frames late"
        )
        made.append((f"live, T = {window}: a window to one more frame", text, f">= {wanted}x", times >= wanted))
    return made
