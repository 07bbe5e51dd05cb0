"""Fine-tuning: encoders, alignment and classifier learn from labels together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from numpy.typing import ArrayLike
from torch.nn import functional as F

from .checkpoint import checksum
from .classifier import CLASSIFIER_FILE, Classifier, save_classifier
from .config import need
from .config_file import to_dict
from .data.feed import Rows
from .determinism import deterministic
from .extras import extra
from .pretrain import usable_device
from .supervised import UNLABELLED, SupervisedConfig, SupervisedRun, checked_clips, checked_labels, examined

__all__ = ["FinetuneConfig", "finetune"]

KIND = "fine-tuning checkpoint"


@dataclass(frozen=True)
class FinetuneConfig(SupervisedConfig):
    """Cross entropy with smoothed labels on augmented clips."""

    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        need(0 <= self.label_smoothing < 1, "label_smoothing must be in [0, 1)", self.label_smoothing)


def finetune(
    model: Classifier,
    clips: torch.Tensor | Rows,
    labels: ArrayLike | torch.Tensor,
    config: FinetuneConfig,
    run_dir: Path,
    resume: bool = False,
) -> Classifier:
    """Train all of a classifier in place, from where a probe left it, and leave the run and the model in a folder.

    Args:
        model: both encoders, alignment and head (or one encoder and head), for example of `make_teacher`. Parameters
            that a probe froze learn again.
        clips: (N, C, T, V, M) float32, the training clips, prepared by `model.data`, or what makes them when they are
            asked for, as `asma.prepare.Prepared`.
        labels: (N) in [0, K).
        config: the training.
        run_dir: where the run goes; made if it is not there.
        resume: go on with the run that the folder holds, if it holds one.

    Returns:
        The model, in evaluation mode, on the CPU.

    Deterministic on the CPU in float32, also across a resume; leaves torch's global random state alone.

    Raises:
        FileExistsError: the folder holds a run and `resume` is off, or a classifier that no run in it made.
        ValueError: clips and labels do not fit, or the folder's run is another one.
        NonFiniteLossError: the loss became NaN or infinite; the message names the step.
        MissingExtraError: safetensors is not installed.
    """
    extra("safetensors")  # rather now than after minutes
    device = usable_device(config.device)
    clips = checked_clips("finetune", clips, model.first_encoder)
    truth = checked_labels("finetune", labels, clips.shape[0], len(model.classes))
    need(bool((truth != UNLABELLED).all()), "finetune: every clip must have a label", "-1")
    feed = config.feed(clips, device)
    inputs = checksum([truth, *model.state_dict().values()], examined("finetune", feed))
    truth = truth.to(device)

    def losses(x: torch.Tensor, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = model(x).float()
        return {"loss": F.cross_entropy(logits, truth[rows], label_smoothing=config.label_smoothing)}

    draws = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with draws, deterministic(config.deterministic, config.device):
        torch.manual_seed(config.seed)
        try:
            model.to(device).requires_grad_(True).train()
            run = SupervisedRun(KIND, config, model, losses, feed, model.skeleton, inputs)
            run.train(Path(run_dir), resume)
        finally:
            model.cpu().eval()
    save_classifier(Path(run_dir) / CLASSIFIER_FILE, model, {"fine-tuning": to_dict(config), "steps": run.step})
    return model
