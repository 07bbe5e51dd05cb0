"""NTU's .skeleton text read in Python, line by line, as people do it today: what the C++ parser is measured against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["READERS"]


def every_number(file: Path) -> NDArray[np.float32]:
    """Each number of each line by float(), x y z kept: the work of st-gcn's reader, which 2s-AGCN, MS-G3D and AimCLR
    have too, without the dictionaries that they build."""
    joints = []
    with open(file) as lines:
        for _ in range(int(lines.readline())):
            for _ in range(int(lines.readline())):
                [float(word) for word in lines.readline().split()]
                for _ in range(int(lines.readline())):
                    numbers = [float(word) for word in lines.readline().split()]
                    joints.append(numbers[:3])
    return np.array(joints, np.float32).reshape(-1, 25, 3)


def array_a_line(file: Path) -> NDArray[np.float32]:
    """x y z of each line by NumPy, an array each: the work of CTR-GCN's and pyskl's readers."""
    joints = []
    with open(file) as lines:
        for _ in range(int(lines.readline())):
            for _ in range(int(lines.readline())):
                lines.readline()
                for _ in range(int(lines.readline())):
                    joints.append(np.array(lines.readline().split()[:3], np.float32))
    return np.array(joints, np.float32).reshape(-1, 25, 3)


def three_numbers(file: Path) -> NDArray[np.float32]:
    """x y z of each line by float(), one array at the end: the fastest plain reader we could write."""
    joints = []
    with open(file) as lines:
        for _ in range(int(lines.readline())):
            for _ in range(int(lines.readline())):
                lines.readline()
                for _ in range(int(lines.readline())):
                    x, y, z, _ = lines.readline().split(" ", 3)
                    joints.append((float(x), float(y), float(z)))
    return np.array(joints, np.float32).reshape(-1, 25, 3)


READERS: dict[str, Callable[[Path], NDArray[np.float32]]] = {
    "every number": every_number,
    "an array a line": array_a_line,
    "x y z alone": three_numbers,
}
