"""`torchrun parallel_run.py FOLDER JSON`: 20 steps by however many processes, for test_parallel.py.

JSON: batch, per_clip, recompute, and die, [rank, step] at which a process leaves without a word the first time it comes
there.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from training_runs import CONFIG, clips

from asma import pretrain
from asma.config import PretrainConfig
from asma_kernels import Skeleton


def config(batch: int = 8, per_clip: bool = False, recompute: bool = False) -> PretrainConfig:
    """Without dropout, whose numbers every process draws for itself."""
    return replace(
        CONFIG,
        views=replace(CONFIG.views, per_clip=per_clip),
        masks=replace(CONFIG.masks, per_clip=per_clip),
        encoder=replace(CONFIG.encoder, dropout=0.0),
        optimiser=replace(CONFIG.optimiser, steps=20, batch=batch),
        checkpoint_every=5,
        recompute=recompute,
    )


def main() -> None:
    folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    rank, step = options.pop("die", (-1, -1))
    train_step = pretrain.Pretraining.train_step

    def mortal(run: pretrain.Pretraining) -> Any:
        mark = folder.with_suffix(".died")
        if int(os.environ.get("RANK", 0)) == rank and run.step == step and not mark.exists():
            mark.touch()
            os._exit(17)
        return train_step(run)

    pretrain.Pretraining.train_step = mortal  # type: ignore[method-assign]
    torch.set_num_threads(1)
    pretrain.pretrain(config(**options), clips(), Skeleton.builtin("ucla20"), folder)
    # A process that exits beside gloo's threads may be aborted.
    left = [name for task in Path("/proc/self/task").iterdir() if "gloo" in (name := (task / "comm").read_text())]
    sys.exit(f"threads are left: {left}" if left else 0)


if __name__ == "__main__":
    main()
