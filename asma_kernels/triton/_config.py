"""The launch configuration of every kernel, and what is other on an architecture. Fixed: nothing is tuned at run time,
so sums come out the same in every run; `python -m bench.tune` tunes where it is asked to."""

from __future__ import annotations

from triton.runtime import driver

from ._tuned import TUNED


class _Launch(dict[str, dict[str, int]]):
    """The common configuration, with what the current GPU's architecture has of its own."""

    def __getitem__(self, name: str) -> dict[str, int]:
        common = super().__getitem__(name)
        if not TUNED:
            return common
        own = TUNED.get(driver.active.get_current_target().arch, {}).get(name)
        return common if own is None else common | own


LAUNCH = _Launch(
    {
        "philox": {"BLOCK": 1024, "num_warps": 4},
        "motion_energy": {"BLOCK_T": 16, "BLOCK_V": 32, "num_warps": 4},
        "motion_energy_backward": {"BLOCK_T": 16, "BLOCK_V": 32, "num_warps": 4},
        "skeleton_view": {"BLOCK": 512, "BLOCK_C": 4, "num_warps": 4},
        "frame_mask": {"num_warps": 4},
        "frame_drop": {"BLOCK_COPY": 512},  # its energies are in the tiles of motion_energy, and by as many warps
        "joint_mask": {"num_warps": 1},
        "graph_conv_dense": {"BLOCK": 128, "BLOCK_E": 32, "num_warps": 4},
        # ROWS joints of frames a program and turn, PROGRAMS programs in all: two for each of an H100's multiprocessors.
        # Without maxnreg ptxas spills a few bytes to get by with 64, 128 or 168 registers.
        "graph_conv": {"ROWS": 128, "BLOCK_C": 32, "BLOCK_D": 64, "num_warps": 8, "num_stages": 2, "maxnreg": 255},
        "graph_conv_float32": {
            "ROWS": 64,
            "BLOCK_C": 16,
            "BLOCK_D": 32,
            "num_warps": 4,
            "num_stages": 2,
            "maxnreg": 255,
        },
        "graph_conv_float64": {
            "ROWS": 32,
            "BLOCK_C": 16,
            "BLOCK_D": 16,
            "num_warps": 4,
            "num_stages": 2,
            "maxnreg": 255,
        },
        "graph_conv_weight": {
            "PROGRAMS": 264,
            "ROWS": 32,
            "BLOCK_C": 64,
            "BLOCK_D": 64,
            "num_warps": 8,
            "num_stages": 2,
            "maxnreg": 255,
        },
        "graph_conv_weight_float32": {
            "PROGRAMS": 264,
            "ROWS": 64,
            "BLOCK_C": 16,
            "BLOCK_D": 32,
            "num_warps": 8,
            "maxnreg": 255,
        },
        "graph_conv_weight_float64": {
            "PROGRAMS": 264,
            "ROWS": 32,
            "BLOCK_C": 16,
            "BLOCK_D": 16,
            "num_warps": 4,
            "maxnreg": 255,
        },
        "graph_conv_values": {
            "PROGRAMS": 264,
            "ROWS": 128,
            "BLOCK_C": 32,
            "BLOCK_D": 64,
            "num_warps": 8,
            "num_stages": 2,
            "maxnreg": 255,
        },
        "graph_conv_values_float32": {
            "PROGRAMS": 264,
            "ROWS": 64,
            "BLOCK_C": 16,
            "BLOCK_D": 32,
            "num_warps": 8,
            "maxnreg": 255,
        },
        "graph_conv_values_float64": {
            "PROGRAMS": 264,
            "ROWS": 32,
            "BLOCK_C": 16,
            "BLOCK_D": 16,
            "num_warps": 4,
            "maxnreg": 255,
        },
        # _float32 says what is other for float32; rows stay, because the partial statistics are of programs.
        "temporal_conv": {"BLOCK_R": 128, "BLOCK_D": 64, "BLOCK_C": 32, "num_warps": 8},
        "temporal_conv_float32": {"BLOCK_D": 32, "BLOCK_C": 16, "num_stages": 2},
        "temporal_conv_input_gradient": {"BLOCK_R": 128, "BLOCK_D": 32, "BLOCK_C": 64, "num_warps": 8},
        "temporal_conv_input_gradient_float32": {"BLOCK_D": 16, "BLOCK_C": 32, "num_stages": 2},
        # PROGRAMS programs in all: eight for each of an H100's multiprocessors.
        "temporal_conv_weight_gradient": {
            "PROGRAMS": 1056,
            "BLOCK_R": 64,
            "BLOCK_D": 64,
            "BLOCK_C": 64,
            "num_warps": 8,
        },
        "temporal_conv_weight_gradient_float32": {"BLOCK_R": 16, "num_stages": 2},
        "finish_statistics": {"BLOCK_P": 512, "BLOCK_D": 8, "num_warps": 8},
        "norm_residual_relu": {"BLOCK": 2048, "num_warps": 4},
        "norm_residual_relu_sums": {"PROGRAMS": 1056, "BLOCK": 1024, "num_warps": 4},
        "norm_residual_relu_backward": {"BLOCK": 2048, "num_warps": 4},
        "barlow_twins_statistics": {"BLOCK_N": 32, "BLOCK_D": 16, "num_warps": 4},
        # About PROGRAMS programs in all: one for each of an H100's multiprocessors. maxnreg as above.
        "barlow_twins_products": {
            "PROGRAMS": 132,
            "BLOCK": 64,
            "BLOCK_K": 16,
            "num_warps": 8,
            "num_stages": 1,
            "maxnreg": 255,
        },
        "barlow_twins_reduce": {"BLOCK": 1024, "num_warps": 4},
        "barlow_twins_loss": {"BLOCK": 1024, "num_warps": 4},
        "barlow_twins_backward_products": {
            "BLOCK_N": 64,
            "BLOCK_D": 64,
            "BLOCK_K": 16,
            "num_warps": 8,
            "num_stages": 1,
            "maxnreg": 255,
        },
        "barlow_twins_backward_terms": {"BLOCK": 64, "num_warps": 2},
        "barlow_twins_backward": {"BLOCK_N": 16, "BLOCK_D": 32, "num_warps": 4},
        "token_mask_keys": {"BLOCK": 1024, "num_warps": 4},
        "token_mask": {"BLOCK": 64, "BLOCK_L": 32, "num_warps": 4},
        "skeleton_view_places": {"BLOCK": 128, "num_warps": 4},
        "skeleton_view_backward": {"BLOCK": 128, "BLOCK_C": 4, "num_warps": 4, "maxnreg": 128},
        "skeleton_view_backward_matrix": {"BLOCK": 512, "BLOCK_C": 4, "num_warps": 4, "maxnreg": 128},
        "skeleton_view_sum_clips": {"BLOCK_N": 64, "BLOCK": 16, "num_warps": 4},
        "view_draw": {"BLOCK": 32, "BLOCK_T": 16, "num_warps": 1},
    }
)
