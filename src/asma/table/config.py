"""What a table holds: its parts, and the pretraining runs that they need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from asma.comparison import OTHER_SEED, Comparison
from asma.config import MaskConfig, PretrainConfig, need
from asma.finetune import FinetuneConfig

__all__ = ["FINETUNE_STEPS", "Part", "TableConfig"]

Part = Literal[
    "frozen", "few-labels", "few-shot", "finetune", "streams", "per-clip", "sides", "amounts", "transfer", "student"
]
FINETUNE_STEPS = {"demo": 60, "cpu": 300, "asma": 0}
"""Of a fine-tuning by any share of the labels; 0: by epochs."""
STREAMS: tuple[Literal["joint", "bone", "motion"], ...] = ("joint", "bone", "motion")


@dataclass(frozen=True)
class TableConfig(Comparison):
    """What is compared, on which clips, by which protocols."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Everything is done once for each; tables show mean and standard deviation."""
    parts: tuple[Part, ...] = ("frozen", "few-labels", "few-shot")
    """frozen: linear probe and 1-NN of random, PSTL's and ASMa's encoders, alone and together; few-labels: probes on
    1 % and 10 % of the labels; few-shot: nearest class mean of 1 and 5 clips a class; finetune: all weights learn from
    1 %, 10 % and all labels; streams: joint, bone and motion and their ensemble; per-clip, sides, amounts: other masks;
    transfer: the frozen part on --transfer; student: distillation."""
    transfer: str = ""
    """Another set, by which part transfer measures the encoders of --data; other joints are mapped."""
    transfer_protocol: str = ""
    """How it is split; empty for its usual split."""
    draws: int = 5
    """Random choices of the labelled clips for each seed, of few-labels and few-shot."""
    steps: int = 0
    """Of pretraining; 0 for those of the preset."""
    joints: int = 0
    """That the spatial mask takes; 0 for the preset's, which is meant for 20 or 25."""
    persons: int = 1
    """M, the persons of a clip: 1, or 2 with zeros where there is no second one."""
    device: str = "cpu"

    def __post_init__(self) -> None:
        super().__post_init__()
        different = len(set(self.parts)) == len(self.parts) > 0
        need(different, "parts must be different names, at least one", self.parts)
        there = bool(self.transfer) == ("transfer" in self.parts)
        need(there, "part transfer and the option --transfer need each other", f"--transfer {self.transfer!r}")
        need(self.draws >= 1, "draws must be at least 1", self.draws)
        need(self.steps >= 0, "steps must be at least 0", self.steps)
        need(self.joints >= 0, "joints must be at least 0", self.joints)

    def pretraining(self, encoder: str, seed: int) -> PretrainConfig:
        """The run of an encoder: pstl, e1, e2 or low (low and low), and after a - what is different about it.

        bone, motion: of that stream; per-clip: masks drawn for every clip; half, more: so many joints and frames
        dropped; other: another seed.
        """
        name, _, change = encoder.partition("-")
        config = super().pretraining("e1" if name == "low" else name, seed)
        config = replace(config, data=replace(config.data, persons=self.persons))
        config = replace(config, masks=replace(config.masks, joints=self.joints or config.masks.joints))
        masks = replace(config.masks, degree="low", motion="low") if name == "low" else config.masks
        if change in STREAMS:
            stream = STREAMS[STREAMS.index(change)]  # type: ignore[arg-type]
            config = replace(config, data=replace(config.data, stream=stream))
        elif change == "per-clip":
            masks = replace(masks, per_clip=True)
        elif change == "other":
            config = replace(config, seed=seed + OTHER_SEED)
        elif change:
            masks = _amount(masks, {"half": 0.5, "more": 1.5}[change])
        optimiser = replace(config.optimiser, steps=self.steps or config.optimiser.steps)
        return replace(config, masks=masks, optimiser=optimiser, device=self.device)

    def finetuning(self, seed: int) -> FinetuneConfig:
        """Of any encoder by any share of the labels."""
        default = FinetuneConfig(seed=seed, device=self.device)
        return replace(default, optimiser=replace(default.optimiser, steps=FINETUNE_STEPS[self.preset]))


def _amount(masks: MaskConfig, share: float) -> MaskConfig:
    parts = {name: round(share * getattr(masks, name)) for name in ("joints", "frames", "extra_frames")}
    return replace(masks, **parts)
