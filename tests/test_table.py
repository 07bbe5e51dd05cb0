"""`asma table` on a small set: every part is there, what is done stays, and the numbers are what they say."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from asma import comparison, config
from asma.cli import main
from asma.evaluate import linear_probe, nearest_mean
from asma.pretrain import Pretraining
from asma.scores import ensemble
from asma.supervised import SupervisedRun
from asma.table import config as table_config
from asma.table.command import run_table
from asma.table.config import Part, TableConfig
from asma.table.page import markdown, percent
from asma.table.parts import PARTS
from asma.table.summary import cell, interval
from asma.table.work import Splits, Work

CLIPS = "builtin:classes=3,subjects=4,views=1,repeats=4"
OTHER = "builtin:classes=4,subjects=4,views=1,repeats=2"


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """Presets with a small encoder and few steps, on one thread (see test_pretrain)."""
    before, run = torch.get_num_threads(), config.preset("demo")
    run = replace(
        run,
        encoder=replace(run.encoder, channels=(16, 32), strides=(2, 2)),
        projector=replace(run.projector, width=16),
        optimiser=replace(run.optimiser, batch=8, steps=4),
        checkpoint_every=2,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config.PRESETS, "demo", run)
        patch.setitem(comparison.STUDENT_STEPS, "demo", 4)
        patch.setitem(table_config.FINETUNE_STEPS, "demo", 2)
        torch.set_num_threads(1)
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, small: None) -> Path:
    """A folder with a table of all parts, of one seed."""
    folder = tmp_path_factory.mktemp("table")
    run_table(wanted(), folder, quiet)
    return folder


def wanted(**changes: object) -> TableConfig:
    return replace(TableConfig(CLIPS, seeds=(0,), parts=get_args(Part), transfer=OTHER, draws=2), **changes)


def quiet(text: str) -> None:
    pass


def results_of(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_every_part_is_in_the_table(whole: Path) -> None:
    results = results_of(whole)
    assert list(results["sections"]) == list(get_args(Part))
    text, page = (whole / "results.md").read_text(), (whole / "report.html").read_text()
    for part, made in results["sections"].items():
        assert f"## {PARTS[part].title}\n" in text and PARTS[part].title in page
        for row, cells in made["rows"].items():
            assert list(cells) == list(made["columns"]), row
            assert all(0 <= each["mean"] <= 1 for each in cells.values())
            assert f"| {row} | {' | '.join(percent(each) for each in cells.values())} |" in text.splitlines()
    assert len(results["per_class"]["aligned"]) == 3 and "one seed says nothing" in text
    assert "http" not in re.sub(r"http://www\.w3\.org/\S+", "", page) and page.count("data:image/") >= 12


def test_done_is_not_done_again(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = results_of(whole)
    monkeypatch.setattr(Pretraining, "train_step", lambda run: pytest.fail("trained again"))
    monkeypatch.setattr(SupervisedRun, "train_step", lambda run: pytest.fail("learnt again"))
    after = run_table(wanted(), whole, quiet)
    assert after["sections"] == before["sections"] and after["training_seconds"] == before["training_seconds"]


def test_a_table_grows_by_seeds_and_parts_and_an_interrupted_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_table(wanted(parts=("frozen",), transfer=""), tmp_path, quiet)["sections"]["frozen"]["rows"]
    train_step = Pretraining.train_step

    def interrupted(run: Pretraining) -> dict[str, torch.Tensor]:
        if run.config.masks.degree == "low" and run.step == 3:
            raise KeyboardInterrupt
        return train_step(run)

    more = wanted(parts=("frozen", "few-shot"), seeds=(0, 4), transfer="")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Pretraining, "train_step", interrupted)
        run_table(more, tmp_path, quiet)
    assert results_of(tmp_path)["config"]["seeds"] == [0]
    steps = []
    monkeypatch.setattr(Pretraining, "train_step", lambda run: steps.append(run.step) or train_step(run))
    found = run_table(more, tmp_path, quiet)
    assert steps == [2, 3, 0, 1, 2, 3]  # e2 from its checkpoint, then PSTL's other encoder
    rows = found["sections"]["frozen"]["rows"]
    for row, cells in rows.items():
        assert cells["top1"]["seeds"][0] == first[row]["top1"]["seeds"][0] and len(cells["top1"]["seeds"]) == 2
    alone = run_table(wanted(parts=("frozen",), seeds=(4,), transfer=""), tmp_path / "alone", quiet)
    for row, cells in alone["sections"]["frozen"]["rows"].items():
        assert cells["top1"]["seeds"][0] == rows[row]["top1"]["seeds"][1], row
    claims = {each["claim"]: each for each in found["differences"]}
    one, other = (rows[row]["top1"]["seeds"] for row in ("encoder 1", "random encoder"))
    each = [a[0] - b[0] for a, b in zip(one, other, strict=True)]
    assert claims["pretraining helps"]["mean"] == pytest.approx(sum(each) / 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"draws": 3}, r"holds a table with another draws \(2, not 3\)"),
        ({"transfer": CLIPS}, rf"holds a table with another transfer \({re.escape(OTHER)}, not {re.escape(CLIPS)}\)"),
        ({"data": OTHER}, "holds a table with another data"),
    ],
)
def test_another_table_in_the_folder_is_refused(whole: Path, change: dict, message: str) -> None:
    before = (whole / "table.json").read_bytes()
    with pytest.raises(ValueError, match=message):
        run_table(wanted(**change), whole, quiet)
    assert (whole / "table.json").read_bytes() == before


def test_other_clips_behind_the_same_name_are_refused(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The features in the folder are of the clips as they were."""
    own = Splits.own

    def changed(splits: Splits, stream: str = "joint"):
        split = own(splits, stream)
        split.train.data[0, 0, 0] += 1
        return split

    monkeypatch.setattr(Splits, "own", changed)
    with pytest.raises(ValueError, match="holds a table of other clips than builtin.* has now"):
        run_table(wanted(), whole, quiet)


def test_streams_are_probes_and_their_weighted_mean(whole: Path) -> None:
    work = Work(wanted(), 0, Splits(wanted()), whole / "seed0", quiet)
    split = work.splits.own()
    answers = []
    for name in ("e1", "e1-bone", "e1-motion"):
        train, test = work.features(name)
        answers.append(linear_probe(train, split.train.label, test, split.test.label))
    rows = results_of(whole)["sections"]["streams"]["rows"]
    assert [rows[stream]["e1"]["mean"] for stream in ("joint", "bone", "motion")] == [each.top1 for each in answers]
    right = ensemble([each.probabilities for each in answers]).argmax(axis=1) == split.test.label
    assert rows["all three"]["e1"]["mean"] == right.mean()


def test_encoders_differ_in_what_they_say() -> None:
    of = {
        name: wanted().pretraining(name, 3) for name in ("e1", "e2", "pstl", "low", "e1-half", "e1-more", "e1-per-clip")
    }
    sides = {name: (run.masks.degree, run.masks.motion) for name, run in of.items()}
    assert sides["e1"] == ("high", "low") and sides["e2"] == ("low", "high")
    assert sides["pstl"] == ("high", "high") and sides["low"] == ("low", "low")
    assert of["e1-per-clip"].masks.per_clip and not of["e1"].masks.per_clip
    assert [of[name].masks.joints for name in ("e1-half", "e1", "e1-more")] == [2, 4, 6]
    assert wanted().pretraining("e1-bone", 3).data.stream == "bone"
    assert wanted().pretraining("pstl-other", 3).seed != 3
    own = wanted(steps=7, joints=2, persons=2).pretraining("e2", 3)
    assert (own.optimiser.steps, own.masks.joints, own.data.persons) == (7, 2, 2)


def test_cells_and_intervals() -> None:
    found = cell([[0.5, 0.7], [0.8, 0.8]])
    assert found["mean"] == pytest.approx(0.7) and found["deviation"] == pytest.approx(
        np.std([0.5, 0.7, 0.8, 0.8], ddof=1)
    )
    # Student's t of one degree of freedom at 97.5 % is 12.706; the seeds' means are 0.6 and 0.8.
    assert found["interval"] == pytest.approx(12.706 * math.sqrt(0.02) / math.sqrt(2), rel=1e-3)
    assert interval([0.5]) is None and cell([[0.5]])["deviation"] is None


def test_nearest_mean_by_hand() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 6))
    labels = rng.integers(0, 4, 60)
    x = centres[labels] + 0.6 * rng.normal(size=(60, 6)) + 5
    truth = rng.integers(0, 4, 40)
    test = centres[truth] + 0.6 * rng.normal(size=(40, 6)) + 5

    def unit(v: np.ndarray) -> np.ndarray:
        return v / np.linalg.norm(v, axis=-1, keepdims=True)

    a, b = unit(x - x.mean(axis=0)), unit(test - x.mean(axis=0))
    means = unit(np.stack([a[labels == label].mean(axis=0) for label in range(4)]))
    assert nearest_mean(x, labels, test, truth) == pytest.approx(((b @ means.T).argmax(axis=1) == truth).mean())
    assert nearest_mean([[1.0, 0.0], [0.0, 1.0]], [0, 2], [[1.0, 0.1]], [1]) == 0  # class 1 has no clip


def test_options_are_checked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for options, said in (
        (["--parts", "transfer"], "part transfer and the option --transfer need each other, got --transfer ''"),
        (["--seeds", "1", "1"], "seeds must be different numbers, at least one, got (1, 1)"),
        (["--draws", "0"], "draws must be at least 1, got 0"),
    ):
        assert main(["table", "--out", str(tmp_path / "t"), *options]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "t").exists()


def test_the_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", CLIPS, "--seeds", "0", "--parts", "few-shot"]
    assert main(["table", "--out", str(tmp_path), *options]) == 0
    said = capsys.readouterr().out
    assert markdown(results_of(tmp_path)) in said and f"report: {tmp_path / 'report.html'}" in said
