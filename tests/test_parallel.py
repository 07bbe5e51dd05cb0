"""Two processes on halves of a batch are one process on the whole, and a process that dies does not hang the others."""

import json
import os
import subprocess
import sys
from pathlib import Path

import parallel_run
import pytest
import torch
from safetensors.torch import load_file
from training_runs import clips

from asma.checkpoint import load_encoder
from asma.pretrain import Pretraining, pretrain
from asma_kernels import Skeleton

SKELETON = Skeleton.builtin("ucla20")


def torchrun(folder: Path, options: dict, *flags: str, processes: int = 2) -> subprocess.CompletedProcess:
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), *sys.path]))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *flags]
    command += [str(Path(__file__).with_name("parallel_run.py")), str(folder), json.dumps(options)]
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def losses(folder: Path) -> torch.Tensor:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return torch.tensor([line["loss"] for line in lines])


@pytest.mark.parametrize(
    ("options", "processes", "more"),
    [({}, 2, {}), ({"batch": 7}, 2, {"recompute": True}), ({"per_clip": True, "batch": 7}, 3, {})],
    ids=["halves", "uneven, with activations computed again", "three processes, draws of each clip's own"],
)
def test_processes_are_one_process_on_the_whole_batch(options, processes, more, tmp_path) -> None:
    pretrain(parallel_run.config(**options), clips(), SKELETON, tmp_path / "one")
    done = torchrun(tmp_path / "many", {**options, **more}, processes=processes)
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(losses(tmp_path / "many"), losses(tmp_path / "one"), rtol=1e-5, atol=1e-5)
    # Weights but those of a convolution's bias, which the norm behind takes away: its gradient is rounding alone, and
    # Adam makes steps of that.
    one, many = (load_encoder(tmp_path / name)[0] for name in ("one", "many"))
    for name, weight in one.named_parameters():
        if not name.endswith(("conv.bias", "tcn.2.bias", "residual.0.bias")):
            torch.testing.assert_close(many.get_parameter(name), weight, rtol=1e-5, atol=1e-5)


def test_a_process_that_dies_ends_the_job_with_its_number(tmp_path) -> None:
    done = torchrun(tmp_path / "run", {"die": [1, 7]})
    assert done.returncode != 0
    assert "exitcode  : 17" in done.stderr and "rank      : 1" in done.stderr


def test_an_elastic_restart_resumes(tmp_path) -> None:
    whole = torchrun(tmp_path / "whole", {})
    done = torchrun(tmp_path / "run", {"die": [1, 7]}, "--max-restarts=1")
    assert whole.returncode == done.returncode == 0, done.stderr
    one, other = (load_file(tmp_path / name / "encoder.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_one_process_goes_on_with_what_two_began(tmp_path) -> None:
    """A checkpoint belongs to the run, not to the number of processes."""
    torchrun(tmp_path / "run", {"die": [1, 7]})
    pretrain(parallel_run.config(), clips(), SKELETON, tmp_path / "run", resume=True)
    pretrain(parallel_run.config(), clips(), SKELETON, tmp_path / "one")
    torch.testing.assert_close(losses(tmp_path / "run"), losses(tmp_path / "one"), rtol=1e-5, atol=1e-5)


def test_what_several_processes_cannot_do_is_said(monkeypatch) -> None:
    monkeypatch.setattr("asma.parallel.world", lambda: 8)
    with pytest.raises(ValueError, match="optimiser.batch must be at least 2 for each of 8 processes, got 8"):
        Pretraining(parallel_run.config(), clips(), SKELETON)
