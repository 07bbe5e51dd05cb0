"""One seed of a table: its encoders and their features, each made once and then read from the table's folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from asma.checkpoint import load_checkpoint, load_encoder, save_checkpoint
from asma.comparison import Features, features_of, random_encoder
from asma.models import Encoder
from asma.prepare import Split, open_split
from asma.pretrain import pretrain

from .config import TableConfig

__all__ = ["RANDOM_ENCODER", "Work"]

KIND = "features of an encoder"
RANDOM_ENCODER = "random"


class Splits:
    """The clips of a table as its encoders take them, opened at first use."""

    def __init__(self, config: TableConfig) -> None:
        self.config, self.opened = config, dict[str, Split]()

    def own(self, stream: str = "joint") -> Split:
        """The table's set."""
        if stream not in self.opened:
            data = self.config.pretraining("e1" if stream == "joint" else f"e1-{stream}", 0).data
            self.opened[stream] = open_split(data)
        return self.opened[stream]

    @cached_property
    def transfer(self) -> Split:
        """The set that encoders are carried over to, with the joints of the table's set."""
        data = self.config.pretraining("e1", 0).data
        data = replace(data, clips=self.config.transfer, protocol=self.config.transfer_protocol)
        return open_split(data, self.own().train.skeleton)


class Work:
    """One seed's encoders and features."""

    def __init__(
        self, config: TableConfig, seed: int, splits: Splits, folder: Path, say: Callable[[str], None]
    ) -> None:
        self.config, self.seed, self.splits, self.folder, self.say = config, seed, splits, folder, say
        self.encoders: dict[str, Encoder] = {}

    def split(self, encoder: str) -> Split:
        """The clips that an encoder learns from and is tested by."""
        change = encoder.partition("-")[2]
        return self.splits.own(change if change in ("bone", "motion") else "joint")

    def encoder(self, name: str) -> Encoder:
        """A pretrained encoder, trained if it is not there, or what e1 starts from (random, random-bone and so on)."""
        if name not in self.encoders:
            split, untrained = self.split(name), name.startswith(RANDOM_ENCODER)
            if untrained:
                like = self.config.pretraining(name.replace(RANDOM_ENCODER, "e1"), self.seed)
                self.encoders[name] = random_encoder(like, split).cpu()
            else:
                self.encoders[name] = self._trained(name, split)
        return self.encoders[name]

    def _trained(self, name: str, split: Split) -> Encoder:
        run, config = self.folder / name, self.config.pretraining(name, self.seed)
        if (run / "encoder.safetensors").exists():
            return load_encoder(run)[0]
        self.say(f"seed {self.seed}: pretraining {name}, {config.optimiser.total_steps(len(split.train))} steps")
        return pretrain(config, split.prepared, split.train.skeleton, run, resume=run.exists()).cpu()

    def features(self, name: str, transfer: bool = False) -> Features:
        """Of the clips of both sides, made once."""
        file = self.folder / "features" / f"{name}{'-transfer' if transfer else ''}.pt"
        if not file.exists():
            split = self.splits.transfer if transfer else self.split(name)
            train, test = features_of(self.encoder(name), split)
            file.parent.mkdir(parents=True, exist_ok=True)
            save_checkpoint(file, KIND, {"train": train, "test": test})
        found = load_checkpoint(file, KIND)
        train, test = found["train"], found["test"]
        return torch.as_tensor(train), torch.as_tensor(test)
