"""The demo on a small set: everything it promises is there, and what is done is not done again."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from asma import comparison, config, demo
from asma.comparison import ENCODERS, RANDOM, RANDOM_ALIGNED, RAW, STUDENT, TOGETHER
from asma.demo import DemoConfig, run_demo
from asma.pretrain import Pretraining
from asma.results import markdown, summary
from asma.supervised import SupervisedRun

CLIPS = "builtin:classes=3,subjects=4,views=1,repeats=4"
ROWS = (RAW, RANDOM, "encoder 1", "encoder 2", *TOGETHER.values(), RANDOM_ALIGNED, STUDENT)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch):
    """The demo with a small encoder and few steps, on one thread (see test_pretrain)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    run = config.preset("demo")
    run = replace(
        run,
        encoder=replace(run.encoder, channels=(16, 32), strides=(2, 2)),
        projector=replace(run.projector, width=16),
        optimiser=replace(run.optimiser, batch=8, steps=6),
        checkpoint_every=2,
    )
    monkeypatch.setitem(config.PRESETS, "demo", run)
    monkeypatch.setitem(comparison.STUDENT_STEPS, "demo", 6)
    yield
    torch.set_num_threads(before)


def quiet(text: str) -> None:
    pass


def test_everything_is_there(tmp_path: Path) -> None:
    said: list[str] = []
    results = run_demo(DemoConfig(data=CLIPS, seeds=(0, 3)), tmp_path, said.append)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert tuple(results["rows"]) == ROWS
    for row in results["rows"].values():
        assert all(0 <= row[name] <= 1 and row[f"{name}_deviation"] >= 0 for name in ("top1", "top5", "knn"))
    assert results["rows"][RAW]["top1_deviation"] == 0  # does not depend on the seed
    table = (tmp_path / "results.md").read_text()
    lines = re.findall(r"^\| [^%\n]* (?:\| [\d.]+ ± [\d.]+ ){3}\|$", table, re.MULTILINE)
    assert len(lines) == len(ROWS)
    assert "seeds 0, 3" in table and "torch" in table and f"{results['seconds']:.0f} s on" in table
    teacher, student = results["models"]
    assert student["parameters"] <= 0.086 * teacher["parameters"]
    assert f"student: {student['parameters']:,} parameters" in table
    page = (tmp_path / "report.html").read_text()
    assert all(name in page for name in ROWS) and page.count("data:image/") >= 4
    assert "http" not in re.sub(r"http://www\.w3\.org/\S+", "", page)
    assert said[0] == "built-in (seed 0): 24 training and 24 test clips, 3 classes"


def test_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = DemoConfig(data=CLIPS)
    first = run_demo(wanted, tmp_path, quiet)
    with monkeypatch.context() as patch:
        patch.setattr(Pretraining, "train_step", lambda run: pytest.fail("trained again"))
        patch.setattr(SupervisedRun, "train_step", lambda run: pytest.fail("distilled again"))
        patch.setattr(demo, "measure", lambda *rest: pytest.fail("measured again"))
        again = run_demo(wanted, tmp_path, quiet)
    assert again["rows"] == first["rows"]


def test_interrupted_goes_on_to_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = DemoConfig(data=CLIPS)
    # bfloat16 is exact in repetition too: the same instructions on the same numbers.
    whole = run_demo(wanted, tmp_path / "whole", quiet)
    train_step = Pretraining.train_step

    def interrupted(run: Pretraining) -> torch.Tensor:
        if run.config.masks.degree == "low" and run.step == 5:
            raise KeyboardInterrupt
        return train_step(run)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Pretraining, "train_step", interrupted)
        run_demo(wanted, tmp_path / "parts", quiet)
    assert not (tmp_path / "parts" / "results.json").exists()
    steps = []
    monkeypatch.setattr(Pretraining, "train_step", lambda run: steps.append(run.step) or train_step(run))
    parts = run_demo(wanted, tmp_path / "parts", quiet)
    assert steps == [4, 5]
    assert parts["rows"] == whole["rows"]


def test_another_demo_in_the_folder_is_refused(tmp_path: Path) -> None:
    run_demo(DemoConfig(data=CLIPS), tmp_path, quiet)
    with pytest.raises(ValueError, match=r"holds a demo with another compare_pstl \(False, not True\)"):
        run_demo(DemoConfig(data=CLIPS, compare_pstl=True), tmp_path, quiet)


def test_pstls_masks_are_a_third_run(tmp_path: Path) -> None:
    results = run_demo(DemoConfig(data=CLIPS, compare_pstl=True), tmp_path, quiet)
    assert ENCODERS["pstl"] in results["rows"]
    masks = [json.loads((tmp_path / "seed0" / name / "config.json").read_text())["masks"] for name in ENCODERS]
    assert [(mask["degree"], mask["motion"]) for mask in masks] == [("high", "high"), ("high", "low"), ("low", "high")]


def test_random_row_is_the_start_of_encoder_1(tmp_path: Path) -> None:
    """The same weights that pretraining begins with, so that the difference is what pretraining did."""
    split = demo.open_split(DemoConfig(data=CLIPS).pretraining("e1", 0).data)
    wanted = DemoConfig(data=CLIPS).pretraining("e1", 0)
    encoder = demo.random_encoder(wanted, split)
    start = Pretraining(wanted, split.train_x, split.train.skeleton).encoder
    for name, parameter in start.named_parameters():
        assert torch.equal(parameter, encoder.get_parameter(name)), name


def test_summary_and_table() -> None:
    rows = [{"top1": 0.5, "top5": 1.0, "knn": 0.2}, {"top1": 0.7, "top5": 1.0, "knn": 0.4}]
    found = summary(rows)
    assert found["top1"] == pytest.approx(0.6) and found["knn_deviation"] == pytest.approx(0.02**0.5)
    results = {
        "data": "d", "train_clips": 3, "test_clips": 4, "seconds": 1.0, "command": "asma demo", "device": "cpu",
        "training_seconds": 0.5,
        "versions": {"asma": "0"}, "models": [], "config": {"seeds": [0]}, "rows": {"one": summary(rows[:1])},
    }  # fmt: skip
    assert "| one | 50.0 | 100.0 | 20.0 |" in markdown(results)
