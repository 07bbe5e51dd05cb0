"""File parsers in C++, without torch; sources in csrc/host."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

def read_ntu_skeletons(
    paths: Sequence[bytes], threads: int = 1
) -> list[tuple[int, NDArray[np.int32], NDArray[np.uint64], NDArray[np.float32]] | str]:
    """What each .skeleton file holds, or one sentence that says why it cannot be read.

    Several files are read at a time, one on each thread; other Python threads run meanwhile.

    Returns:
        For each path, in their order: the number of frames T; and one entry for each body of each frame, in the order
        of the file: its frame (B,) int32 in [0, T), rising; its id (B,) uint64; its joints (B, 25, 3) float32, each
        number finite or NaN.

    Raises:
        ValueError: threads is not positive.
    """
