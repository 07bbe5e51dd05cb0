"""The deterministic mode: what PyTorch may take inside, and that it is as before afterwards."""

from dataclasses import replace
from pathlib import Path

import classifiers
import pytest
import torch
from safetensors.torch import load_file
from training_runs import CONFIG, OPTIMISER, clips

from asma.determinism import deterministic
from asma.distill import DistillConfig, distill
from asma.finetune import FinetuneConfig, finetune
from asma.pretrain import Pretraining, pretrain
from asma.supervised import SupervisedRun
from asma_kernels import Skeleton

SKELETON = Skeleton.builtin("ucla20")


def flags() -> tuple[bool, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark,
    )  # fmt: skip


@pytest.fixture(params=[(False, False), (True, True)], ids=["free before", "warned before"])
def before(request: pytest.FixtureRequest):
    torch.use_deterministic_algorithms(request.param[0], warn_only=request.param[1])
    torch.backends.cudnn.benchmark = True
    yield flags()
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False


def test_it_holds_inside_and_is_undone_also_by_an_error(before: tuple[bool, ...]) -> None:
    with deterministic(False, "cpu"):
        assert flags() == before
    with pytest.raises(KeyError), deterministic(True, "cpu"):
        assert flags() == (True, False, True, False)
        raise KeyError
    assert flags() == before


def run(kind: str, folder: Path) -> dict[str, torch.Tensor]:
    options = {"optimiser": replace(OPTIMISER, steps=3), "deterministic": True}
    if kind == "pretrain":
        pretrain(replace(CONFIG, **options), clips(), SKELETON, folder)
    elif kind == "finetune":
        finetune(classifiers.teacher(), classifiers.X, classifiers.LABELS, FinetuneConfig(**options), folder)
    else:
        distill(classifiers.teacher(), classifiers.X, DistillConfig(**options), folder)
    return load_file(folder / ("encoder.safetensors" if kind == "pretrain" else "classifier.safetensors"))


@pytest.mark.parametrize("kind", ["pretrain", "finetune", "distill"])
def test_every_training_takes_it_and_repeats_bit_for_bit(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seen = flags(), []
    for of in (Pretraining, SupervisedRun):
        step = of.train_step
        monkeypatch.setattr(of, "train_step", lambda run, step=step: seen.append(flags()) or step(run))
    one, other = (run(kind, tmp_path / name) for name in ("one", "other"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert seen == [(True, False, True, False)] * 6 and flags() == before
    assert torch.load(tmp_path / "one" / "checkpoint.pt", weights_only=True)["config"]["deterministic"] is True


@pytest.mark.parametrize("told", ["", ":0:0"])
def test_on_a_gpu_cublas_must_have_been_told(told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", told)
    config = replace(CONFIG, device="cuda", deterministic=True)
    with pytest.raises(ValueError, match=f"CUBLAS_WORKSPACE_CONFIG=:4096:8 in the .*, got {told or 'none'}"):
        pretrain(config, clips(), SKELETON, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with deterministic(True, "cuda:0"):
        assert torch.are_deterministic_algorithms_enabled()
