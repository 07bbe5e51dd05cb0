"""Runs that are killed, stopped, starved of disk space or broken: what is there afterwards, and how they go on."""

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path

import classifiers
import pytest
import torch
import training_runs
from safetensors.torch import load_file
from training_runs import CONFIG, KINDS, STEPS, clips, train

from asma.checkpoint import load_checkpoint, load_newest_checkpoint, previous, rotate_checkpoint, versions
from asma.pretrain import NonFiniteLossError, Pretraining, pretrain
from asma_kernels import Skeleton

SKELETON = Skeleton.builtin("ucla20")
WEIGHTS = {"pretrain": "encoder.safetensors", "finetune": "classifier.safetensors", "distill": "classifier.safetensors"}


@pytest.fixture(scope="module")
def context() -> multiprocessing.context.BaseContext:
    """Processes that begin with everything imported, and no thread of their parent."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training_runs"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(Path(__file__).parent), *sys.path])))
        forkserver.ensure_running()
    return context


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, torch.Tensor]]:
    """Weights of runs that nobody disturbed."""
    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind) / "run"
        train(kind, folder)
        found[kind] = load_file(folder / WEIGHTS[kind])
    return found


def run(context, target, *arguments) -> int:
    process = context.Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def assert_finished(kind: str, folder: Path, whole: dict[str, dict[str, torch.Tensor]]) -> None:
    """Bit for bit as if nothing had happened."""
    weights = load_file(folder / WEIGHTS[kind])
    assert weights.keys() == whole[kind].keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in whole[kind].items())
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(2, STEPS + 1, 2))
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_write_and_resumed_is_bit_equal(kind, tmp_path, context, whole) -> None:
    """Each life is ended by SIGKILL at a file operation, also with half a checkpoint on the disk; the next goes on."""
    folder, lives = tmp_path / "run", 0
    for call in (9, 12, 13, 14, 17, 3, 40):
        resume = (folder / "config.json").exists()
        code = run(context, training_runs.train_and_die, kind, folder, resume, call)
        assert code in (0, -signal.SIGKILL)
        lives += 1
        if code == 0:
            break
    assert lives > 4 and run(context, train, kind, folder, True) == 0
    assert_finished(kind, folder, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_moments_and_resumed_is_bit_equal(kind, tmp_path, context, whole) -> None:
    folder, chance = tmp_path / "run", random.Random(kind)
    for _ in range(3):
        resume = (folder / "config.json").exists()
        process = context.Process(target=training_runs.train_slowly, args=(kind, folder, resume, 0.02))
        process.start()
        process.join(chance.uniform(0.05, 0.9))
        process.kill()
        process.join()
    assert run(context, train, kind, folder, (folder / "config.json").exists()) == 0
    assert_finished(kind, folder, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_sigterm_saves_and_leaves(kind, tmp_path, context, whole) -> None:
    folder = tmp_path / "run"
    process = context.Process(target=training_runs.train_slowly, args=(kind, folder, False, 0.3))
    process.start()
    for _ in range(600):
        if (folder / "metrics.jsonl").exists() and (folder / "metrics.jsonl").read_text():
            break
        time.sleep(0.05)
    process.terminate()
    process.join()
    assert process.exitcode == 143
    step = torch.load(folder / "checkpoint.pt", weights_only=True)["step"]
    lines = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert 2 <= step < STEPS and lines[-1] == step
    assert run(context, train, kind, folder, True) == 0
    weights = load_file(folder / WEIGHTS[kind])
    assert all(torch.equal(tensor, weights[name]) for name, tensor in whole[kind].items())


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        *(("pretrain", damage) for damage in ("cut", "flipped", "empty", "gone")),
        ("finetune", "cut"),
        ("distill", "flipped"),
    ],
)
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(kind, damage, tmp_path, whole, capsys) -> None:
    folder = tmp_path / "run"
    train(kind, folder)
    (folder / WEIGHTS[kind]).unlink()
    file = folder / "checkpoint.pt"
    content = bytearray(file.read_bytes())
    for place in range(len(content) // 2, len(content) // 2 + 2000):  # more than what lies between two tensors
        content[place] ^= 1
    {
        "cut": lambda: file.write_bytes(content[: len(content) // 2]),
        "flipped": lambda: file.write_bytes(content),
        "empty": lambda: file.write_bytes(b""),
        "gone": file.unlink,
    }[damage]()
    train(kind, folder, resume=True)
    assert_finished(kind, folder, whole)
    said = capsys.readouterr().err
    if damage != "gone":
        assert f"checkpoint {file} cannot be read" in said and f"the one before, of step {STEPS - 2}" in said


def test_both_checkpoints_damaged_is_one_error_and_loses_nothing(tmp_path) -> None:
    folder = tmp_path / "run"
    train("pretrain", folder)
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (folder / name).write_bytes(b"dust")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(ValueError, match=r"checkpoint.pt cannot be read .* start the run again"):
        train("pretrain", folder, resume=True)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_keeps_the_last_checkpoint(kind, tmp_path, context, whole) -> None:
    """The limit on a file's size stands for the disk: the checkpoint does not fit, and the run says so."""
    folder, said = tmp_path / "run", tmp_path / "said"
    assert run(context, training_runs.train_on_a_full_disk, kind, folder, said) == 2
    assert "checkpoint.next.pt cannot be written" in said.read_text() and "make room" in said.read_text()
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["step"] == 4
    train(kind, folder, resume=True)
    assert_finished(kind, folder, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_holds_all_that_a_result_depends_on(kind, tmp_path) -> None:
    train(kind, tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    learnt = {"encoder", "projector", "clips"} if kind == "pretrain" else {"trained", "inputs"}
    assert {"optimiser", "batches", "views", "config", "step", "random", "versions"} | learnt <= state.keys()
    assert {"python", "numpy", "torch"} <= state["random"][0].keys()
    # Of the schedule: the step that it is a function of, its options, and where it came to.
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert state["step"] == STEPS and state["config"]["optimiser"]["warmup"] == 0.25
    assert state["optimiser"]["param_groups"][0]["lr"] == json.loads(lines[-1])["lr"]
    assert state["versions"]["torch"] == torch.__version__ and {"asma", "numpy", "python"} <= state["versions"].keys()


def test_of_a_git_checkout_the_checkpoint_names_the_commit() -> None:
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        pytest.skip("these files are no git checkout")
    commit = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert versions()["git"].removesuffix("+") == commit.stdout.strip()


def test_random_numbers_of_others_go_on_too(tmp_path) -> None:
    """Python's and NumPy's: a data pipeline of one's own may draw from them."""
    import numpy as np

    from asma.loop import random_state, restore_random_state

    device = torch.device("cpu")
    state = random_state(device)
    torch.save(state, tmp_path / "state.pt")
    expected = random.random(), np.random.rand(), torch.rand(1)
    restore_random_state(torch.load(tmp_path / "state.pt", weights_only=True), device)
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected


def test_rotation_leaves_one_whole_checkpoint_at_every_moment(tmp_path, monkeypatch) -> None:
    path = tmp_path / "checkpoint.pt"
    rotate_checkpoint(path, "test", {"step": 1})
    rotate_checkpoint(path, "test", {"step": 2})
    replace_file = os.replace
    for last in range(4):
        calls = iter(range(9))

        def dying(*arguments, calls=calls, last=last):
            if next(calls) >= last:
                raise KeyboardInterrupt
            replace_file(*arguments)

        monkeypatch.setattr(os, "replace", dying)
        with contextlib.suppress(KeyboardInterrupt):
            rotate_checkpoint(path, "test", {"step": 3})
        monkeypatch.setattr(os, "replace", replace_file)
        assert load_newest_checkpoint(path, "test").content["step"] in (2, 3)
    assert load_checkpoint(previous(path), "test")["step"] in (2, 3)


class TestNonFinite:
    """Weights that are driven to infinity: the step, its clips and what broke are on the disk."""

    CONFIG = replace(CONFIG, optimiser=replace(CONFIG.optimiser, lr=1e25, warmup=0.0))

    def test_the_report_names_module_step_and_clips(self, tmp_path) -> None:
        folder = tmp_path / "run"
        with pytest.raises(
            NonFiniteLossError, match=r"the loss became nan in step (\d+) of 12.*first in the output of"
        ) as error:
            pretrain(self.CONFIG, clips(), SKELETON, folder)
        assert "nonfinite.pt" in str(error.value)
        report = torch.load(folder / "nonfinite.pt", weights_only=True)
        assert report["step"] >= 2 and not report["losses"]["loss"].isfinite()
        assert report["clips"]["clips"].shape == (8, 3, 12, 20, 1)
        assert torch.equal(report["clips"]["clips"], clips()[report["clips"]["index"]])
        assert report["modules"][0].startswith(("encoder.", "projector."))
        assert report["parameters_before"] == [] or all(isinstance(name, str) for name in report["parameters_before"])

    @pytest.mark.parametrize(("kind", "models"), [("finetune", ("encoders", "alignment")), ("distill", ("student",))])
    def test_the_report_of_a_training_with_labels(self, kind, models, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(training_runs, "OPTIMISER", self.CONFIG.optimiser)
        with pytest.raises(NonFiniteLossError, match="first in the output of .*nonfinite.pt"):
            train(kind, tmp_path / "run")
        report = torch.load(tmp_path / "run" / "nonfinite.pt", weights_only=True)
        assert not report["losses"]["loss"].isfinite() and report["modules"][0].startswith(models)
        assert torch.equal(report["clips"]["clips"], classifiers.X[report["clips"]["index"]])

    def test_clips_that_are_not_finite(self, tmp_path) -> None:
        broken = clips()
        broken[7, 0, 3, 4] = float("nan")
        folder = tmp_path / "run"
        with pytest.raises(NonFiniteLossError):
            pretrain(CONFIG, broken, SKELETON, folder)
        report = torch.load(folder / "nonfinite.pt", weights_only=True)
        assert 7 in report["clips"]["index"].tolist()


def test_a_copy_of_the_folder_goes_on_as_well(tmp_path, whole) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        step = Pretraining.train_step
        patch.setattr(
            Pretraining, "train_step", lambda run: step(run) if run.step < 7 else exec("raise KeyboardInterrupt")
        )
        train("pretrain", tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "elsewhere")
    train("pretrain", tmp_path / "elsewhere", resume=True)
    assert_finished("pretrain", tmp_path / "elsewhere", whole)
