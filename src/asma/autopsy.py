"""Why a loss became NaN or infinite: the step is done again, from the last checkpoint, and looked at."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .checkpoint import CHECKPOINT_FILE, load_newest_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from .loop import Run

REPORT_FILE = "nonfinite.pt"


def autopsy(run: Run, folder: Path, step: int) -> str:
    """Write what went bad in a step, counted from 1, into the run's folder; a sentence about it.

    The file holds the step, its clips, the losses, and the names of the first module with an output that is not
    finite and of all parameters with such values or gradients; `torch.load(path, weights_only=True)` reads it. The run
    is left where the step ends.
    """
    from .loop import restore_random_state

    found = load_newest_checkpoint(folder / CHECKPOINT_FILE, run.kind)
    if found is None:
        return "no checkpoint is there to look at the step from"
    run.load_state(found.content)
    restore_random_state(found.content["random"][0], run.device)
    while run.step < step - 1:
        run.train_step()
    before = _broken(run.trained)
    outputs: list[str] = []
    with ExitStack() as stack:
        for name, module in run.trained.named_modules():
            hook = module.register_forward_hook(_remember(outputs, name or type(module).__name__))
            stack.callback(hook.remove)
        losses = run.train_step()
    gradients = [
        name for name, p in run.trained.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())
    ]
    report = {
        "step": step,
        "losses": {name: loss.detach().cpu() for name, loss in losses.items()},
        "clips": {name: tensor.detach().cpu() for name, tensor in run.batch.items()},
        "modules": outputs,
        "gradients": gradients,
        "parameters_before": before,
        "rate": run.rate,
    }
    save_checkpoint(folder / REPORT_FILE, "report on a step that was not finite", report)
    if all(loss.isfinite() for loss in losses.values()):
        return f"done again from the checkpoint of step {found.content['step']} the step was finite, see {REPORT_FILE}"
    first = f"first in the output of {outputs[0]}" if outputs else "in the loss alone"
    return f"{first}; clips and tensors are in {folder / REPORT_FILE}"


def _remember(outputs: list[str], name: str) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and not bool(output.isfinite().all()):
            outputs.append(name)

    return hook


def _broken(model: nn.Module) -> list[str]:
    """Names of parameters and buffers that are not finite."""
    values = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return [name for name, value in values.items() if value.is_floating_point() and not bool(value.isfinite().all())]
