"""The loop of every training: metrics, checkpoints, going on after a stop, and what to do when something breaks.

A run's folder holds config.json, metrics.jsonl, checkpoint.pt and the checkpoint before it, and whatever its command
leaves at the end. Of several processes the first one writes.
"""

from __future__ import annotations

import json
import math
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
import torch

from . import parallel
from .autopsy import autopsy
from .checkpoint import CHECKPOINT_FILE, CONFIG_FILE, METRICS_FILE, load_newest_checkpoint, rotate_checkpoint
from .config_file import difference, load_config, to_dict
from .extras import Progress, extra
from .files import forget_unfinished, write_text

__all__ = ["NonFiniteLossError", "Run", "TerminatedError", "random_state", "restore_random_state", "train"]


class NonFiniteLossError(ValueError):
    """The loss became NaN or infinite."""


class TerminatedError(RuntimeError):
    """The run was asked to stop (SIGTERM), and has saved where it is."""


class Run(Protocol):
    """Everything that changes while a model learns."""

    kind: str
    """What its checkpoints are called."""
    config: Any
    """A dataclass with log_every and checkpoint_every."""
    step: int
    """Steps that are done."""
    total_steps: int
    device: torch.device

    def train_step(self) -> dict[str, torch.Tensor]:
        """One step; its losses by name, still on the device. The one called "loss" is minimised."""
        ...

    @property
    def batch(self) -> dict[str, torch.Tensor]:
        """The clips of the last step, by name; for the report on a step that went wrong."""
        ...

    @property
    def trained(self) -> torch.nn.Module:
        """All that learns."""
        ...

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        ...

    @property
    def clips_per_step(self) -> int: ...

    @property
    def waited(self) -> float:
        """Seconds in which this process has waited for clips."""
        ...

    def state(self) -> dict[str, Any]:
        """What `load_state` needs to go on as if nothing had happened, random numbers aside."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """
        Raises:
            ValueError: the state is of a run with other clips, labels or models.
        """
        ...


def train(run: Run, folder: Path, resume: bool, tensorboard: bool = False) -> None:
    """Run to the end, or go on with the run that the folder holds: on the CPU in float32, bit for bit.

    Raises:
        FileExistsError: the folder holds a run and `resume` is off.
        FileNotFoundError: it holds none and `resume` is on.
        ValueError: the folder's run is another one, or both its checkpoints are damaged.
        NonFiniteLossError: a loss became NaN or infinite; the message names the step and the report on it.
        TerminatedError: SIGTERM came; a checkpoint of the last step is there.
    """
    if parallel.first():
        _begin(run, folder, resume)
    parallel.wait()
    _load(run, folder)
    log = _Log(run, folder, tensorboard)
    progress = Progress(range(run.step, run.total_steps), folder.name, parallel.first())
    with _asked_to_stop() as asked:
        for _ in progress:
            log.add(run.train_step())
            checkpoint = run.step == run.total_steps or run.step % run.config.checkpoint_every == 0
            stop = False
            if checkpoint or run.step % run.config.log_every == 0 or (asked and parallel.alone()):
                values = log.write()
                stop = parallel.any_process(bool(asked), run.device)
                progress.show(
                    loss=f"{values['loss']:.4g}",
                    clips_per_second=f"{values['clips_per_second']:.0f}",
                    data_wait=f"{values['data_wait']:.0%}",
                    memory=f"{values['memory_mb'] / 1000:.1f} GB",
                )
            if checkpoint or stop:
                save(run, folder)
            if stop and run.step < run.total_steps:
                raise TerminatedError(
                    f"{folder}: stopped by SIGTERM after step {run.step}; it goes on from there "
                    "(pretrain and distill with --resume, demo and table by the same command)"
                )
    log.close()


def save(run: Run, folder: Path) -> None:
    """Write a checkpoint, by the first process; the one before stays beside it."""
    states = parallel.gather(random_state(run.device))
    if parallel.first():
        content = {"config": to_dict(run.config), **run.state(), "random": states}
        rotate_checkpoint(folder / CHECKPOINT_FILE, run.kind, content)
    parallel.wait()


def random_state(device: torch.device) -> dict[str, Any]:
    """The states of Python's, NumPy's, torch's and the device's random numbers, as plain values and tensors."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    state = {
        "python": random.getstate(),
        "numpy": (str(name), torch.from_numpy(np.array(keys, np.int64)), int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Undo whatever was drawn since `random_state`."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def _begin(run: Run, folder: Path, resume: bool) -> None:
    """Make the folder, or check that what it holds is this run."""
    config_file, checkpoint_file = folder / CONFIG_FILE, folder / CHECKPOINT_FILE
    if resume:
        found = difference(to_dict(load_config(config_file, type(run.config))), to_dict(run.config))
        if found:
            raise ValueError(f"{folder} holds a run with another {found}: leave the option away or take another folder")
        forget_unfinished(folder)
    elif config_file.exists() or checkpoint_file.exists():
        raise FileExistsError(f"{folder} holds a run already: go on with it by --resume, or take another folder")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(config_file, json.dumps(to_dict(run.config), indent=2) + "\n")


def _load(run: Run, folder: Path) -> None:
    """Take the newest checkpoint that can be read; without one a run begins, with a checkpoint of step 0."""
    found = load_newest_checkpoint(folder / CHECKPOINT_FILE, run.kind)
    parallel.wait()
    if found is None:
        save(run, folder)
        return
    try:
        run.load_state(found.content)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    states = found.content["random"]
    restore_random_state(states[parallel.rank() if len(states) > parallel.rank() else 0], run.device)
    if found.why and parallel.first():
        print(f"asma: {found.why}: going on from the one before, of step {run.step}", file=sys.stderr)


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """A list that SIGTERM makes non-empty; outside of the main thread signals are not ours to take."""
    asked: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    try:
        before = signal.signal(signal.SIGTERM, remember)
    except ValueError:
        yield asked
        return
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


class _Log:
    """metrics.jsonl, and TensorBoard's files where asked for. Losses stay on the device until a line is written."""

    def __init__(self, run: Run, folder: Path, tensorboard: bool) -> None:
        self.run, self.folder, self.file = run, folder, folder / METRICS_FILE
        self.pending: list[dict[str, torch.Tensor]] = []
        self.seconds, self.waited, self.board = 0.0, run.waited, None
        if parallel.first():
            # A run that stopped after its last checkpoint has written lines that it is about to write again.
            lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= run.step]
            write_text(self.file, "".join(line + "\n" for line in kept))
            self.seconds = json.loads(kept[-1])["seconds"] if kept else 0.0
            if tensorboard:
                self.board = extra("torch.utils.tensorboard").SummaryWriter(str(folder))
        self.since = time.perf_counter()

    def add(self, losses: dict[str, torch.Tensor]) -> None:
        self.pending.append({name: loss.detach() for name, loss in losses.items()})

    def write(self) -> dict[str, float]:
        """A line with the mean losses since the last one, the learning rate, the speed, the share of the time in which
        the run waited for clips, the seconds in all and the memory."""
        run, count = self.run, len(self.pending)
        series = {name: torch.stack([losses[name] for losses in self.pending]).tolist() for name in self.pending[0]}
        for step, loss in enumerate(series["loss"], run.step - count + 1):
            if not math.isfinite(loss):
                self._complain(step, loss)
        now, waited = time.perf_counter(), run.waited
        self.seconds += now - self.since
        values = {
            "step": run.step,
            **{name: sum(losses) / count for name, losses in series.items()},
            "lr": run.rate,
            "clips_per_second": round(count * run.clips_per_step / (now - self.since), 1),
            "data_wait": round((waited - self.waited) / (now - self.since), 4),
            "seconds": round(self.seconds, 2),
            "memory_mb": round(parallel.memory_bytes(run.device) / 1e6),
        }
        if parallel.first():
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, run.step)
        self.pending.clear()
        self.since, self.waited = now, waited
        return values

    def _complain(self, step: int, loss: float) -> None:
        rate = self.run.config.optimiser.lr
        message = (
            f"the loss became {loss} in step {step} of {self.run.total_steps}: try a lower optimiser.lr (it is {rate}) "
            "or bfloat16 off; the last checkpoint is from before"
        )
        if parallel.alone():
            message += f"; {autopsy(self.run, self.folder, step)}"
        raise NonFiniteLossError(message)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()
