"""The launch configuration of every kernel. Fixed: nothing is tuned at run time."""

from __future__ import annotations

LAUNCH: dict[str, dict[str, int]] = {
    "philox": {"BLOCK": 1024, "num_warps": 4},
    "motion_energy": {"BLOCK_T": 16, "BLOCK_V": 32, "num_warps": 4},
    "motion_energy_backward": {"BLOCK_T": 16, "BLOCK_V": 32, "num_warps": 4},
    "skeleton_view": {"BLOCK": 512, "BLOCK_C": 4, "num_warps": 4},
    "frame_mask": {"num_warps": 4},
    "joint_mask": {"num_warps": 1},
}
