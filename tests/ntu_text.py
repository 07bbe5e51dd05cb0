"""Texts of .skeleton files as a sensor's recorder writes them, for the tests of the parser and of the reader."""

import numpy as np

SENSOR_ID = 72057594037931101


def joint_line(x, y, z):
    return f"{x} {y} {z} 277.419 191.8218 1036.233 519.1677 -0.2059419 0.05349901 0.9692109 -0.1239193 2"


def body_lines(numbers, id=SENSOR_ID):
    """A body from 25 triples of numbers or of what stands for them."""
    return [f"{id} 0 1 1 1 1 0 0.02764709 0.05745083 2", "25", *(joint_line(*numbers[v]) for v in range(25))]


def text(frames, end="\r\n"):
    """A file from the bodies of each frame, each a pair (id, joints (25, 3))."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for id, joints in bodies:
            lines += body_lines([[f"{number:.7g}" for number in joint] for joint in joints], id)
    return end.join(lines) + end


def pose(seed=0, at=(0.0, 0.0, 3.0)):
    """Somebody who stands: (25, 3) metres, y up."""
    rng = np.random.default_rng(seed)
    upright = np.stack([np.zeros(25), np.linspace(-0.8, 0.8, 25), np.zeros(25)], 1)
    return (upright + rng.normal(0, 0.08, (25, 3)) + at).astype(np.float32)
