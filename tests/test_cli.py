"""The command line: what users do, and what they get wrong."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from asma import cli, cli_data, config
from asma.cli import main
from asma.config import PRESETS, OptimiserConfig, PretrainConfig, preset, with_masks
from asma.config_file import difference, from_dict, load_config, to_dict
from asma.data import Clip, ClipSet, Header, StoreWriter, Track, builtin_clips, save_clips
from asma.prepare import open_split
from asma_kernels import Skeleton

CLIPS = "builtin:classes=4,subjects=4,views=1,repeats=2"
SMALL = ["--preset", "demo", "--data.clips", CLIPS, "--encoder.channels", "16", "32", "--encoder.strides", "2", "2"]
SMALL += ["--projector.width", "16", "--optimiser.batch", "8", "--optimiser.steps", "4", "--optimiser.lr", "1e-3"]


@pytest.fixture(autouse=True)
def one_thread():
    """See test_pretrain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished pretraining run."""
    folder = tmp_path_factory.mktemp("runs") / "e2"
    assert main(["pretrain", "--out", str(folder), "--encoder-of", "e2", *SMALL]) == 0
    return folder


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence on stderr of a command that fails."""
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("asma: ") and captured.err.count("\n") == 1, captured.err
    return captured.err


def test_pretrain_writes_a_run(run: Path) -> None:
    assert {file.name for file in run.iterdir()} == {
        "config.json", "metrics.jsonl", "checkpoint.pt", "checkpoint.previous.pt", "encoder.safetensors",
    }  # fmt: skip
    written = load_config(run / "config.json", PretrainConfig)
    assert written.masks == with_masks(preset("demo"), "e2").masks
    assert (written.encoder.channels, written.optimiser.steps, written.data.clips) == ((16, 32), 4, CLIPS)


def test_probe_and_knn(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", str(run), "--epochs", "20"]) == 0
    assert main(["knn", str(run), str(run / "encoder.safetensors"), "--k", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r".*e2 on built-in \(seed 0\): linear probe [\d.]+ %, top 5 100.0 %", lines[0])
    assert len(lines) == 3 and all(re.search(r": 3-NN [\d.]+ %$", line) for line in lines[1:])
    assert lines[1].split(": ")[1] == lines[2].split(": ")[1]


def test_probe_on_other_clips(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_clips(tmp_path / "mine.npz", builtin_clips(seed=5, classes=3, subjects=4, views=2, repeats=1))
    assert main(["probe", str(run), "--clips", str(tmp_path / "mine.npz"), "--protocol", "view-1-2"]) == 0
    assert "linear probe" in capsys.readouterr().out


def test_two_persons_from_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Clips of two persons, from their file to an answer."""
    clips = builtin_clips(classes=2, subjects=4, views=1, repeats=2)
    header = Header("pairs", clips.skeleton, "xyz", clips.classes, "subject-odd-even")
    with StoreWriter(tmp_path / "pairs", header) as writer:
        for i in range(len(clips)):
            persons = (Track(0, 0, clips.clip(i)), Track(1, 5, clips.clip(i)[5:20] + 1))[: 1 + i % 2]
            label, subject = int(clips.label[i]), int(clips.subject[i])
            writer.add(Clip(str(clips.name[i]), int(clips.lengths[i]), persons, label, subject))
    options = [*SMALL, "--data.clips", str(tmp_path / "pairs"), "--data.persons", "2", "--data.pipeline", "pstl"]
    for name in ("e1", "e2"):
        assert main(["pretrain", "--out", str(tmp_path / name), "--encoder-of", name, *options]) == 0
    assert "B on cpu, where" in capsys.readouterr().out
    runs = [str(tmp_path / "e1"), str(tmp_path / "e2")]
    assert main(["probe", *runs, "--out", str(tmp_path / "teacher"), "--epochs", "20"]) == 0
    assert "e1 on pairs: linear probe" in capsys.readouterr().out
    assert main(["predict", str(tmp_path / "teacher"), str(tmp_path / "pairs"), "--clip", str(clips.name[3])]) == 0
    assert capsys.readouterr().out.count("%") == 2
    with pytest.raises(ValueError, match="data.persons must be 1 or 2, got 3"):
        config.DataConfig(persons=3)


@pytest.fixture(scope="module")
def teacher(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of two short runs."""
    folder = tmp_path_factory.mktemp("teacher")
    assert main(["pretrain", "--out", str(folder / "e1"), "--encoder-of", "e1", *SMALL]) == 0
    assert main(["probe", str(folder / "e1"), str(run), "--out", str(folder / "teacher"), "--epochs", "20"]) == 0
    return folder / "teacher"


def test_probe_of_both_encoders(teacher: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    e1 = str(teacher.parent / "e1")
    assert main(["probe", e1, str(run), "--epochs", "20"]) == 0
    names = [line.split(" on ")[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [e1, str(run), "both, mean", "both, concat", "both, aligned"]
    assert "holds a teacher already" in complaint(capsys, "probe", e1, str(run), "--out", str(teacher))
    assert "--out needs two runs, encoder 1 and encoder 2, got 1" in complaint(capsys, "probe", e1, "--out", "x")


def test_distill_and_predict(teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student = str(tmp_path / "student")
    options = ["--optimiser.steps", "8", "--optimiser.batch", "8"]
    assert main(["distill", str(teacher), "--out", student, "--share", "0.08", *options]) == 0
    said = capsys.readouterr().out
    sizes = [int(size.replace(",", "")) for size in re.findall(r"\(([\d,]+) parameters\)", said)]
    assert sizes[1] <= 0.08 * sizes[0] and said.count("accuracy") == 2 and "student narrow (" in said
    assert main(["distill", str(teacher), "--out", student, "--resume"]) == 0
    assert capsys.readouterr().out == said
    assert "holds a run already" in complaint(capsys, "distill", str(teacher), "--out", student, *options)
    too_large = complaint(capsys, "distill", str(teacher), "--out", str(tmp_path / "base"), "--student", "base")
    assert "a student must have at most 8.6 %" in too_large and not (tmp_path / "base").exists()
    for model in (student, str(teacher)):
        assert main(["predict", model, CLIPS, "--clip", "0"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 4 and sum(float(line.split("%")[0]) for line in lines) == pytest.approx(100, abs=0.3)
    clip = builtin_clips(classes=2, subjects=2, views=1, repeats=1).clip(1)
    np.savez(tmp_path / "clip.npz", clip)
    assert main(["predict", student, str(tmp_path / "clip.npz")]) == 0
    assert "%" in capsys.readouterr().out
    assert "names are like" in complaint(capsys, "predict", student, CLIPS, "--clip", "somebody")
    assert "is not there" in complaint(capsys, "predict", student, str(tmp_path / "gone.npz"))


def test_distill_without_labels(teacher: Path, tmp_path: Path) -> None:
    options = ["--optimiser.steps", "4", "--optimiser.batch", "8", "--log-every", "1", "--no-labels"]
    assert main(["distill", str(teacher), "--out", str(tmp_path / "s"), *options]) == 0
    lines = [json.loads(line) for line in (tmp_path / "s" / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 4 and all("kl" in line and "ce" not in line for line in lines)


def test_resume_needs_nothing_but_the_folder(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "metrics.jsonl").read_text()
    assert main(["pretrain", "--out", str(run), "--resume"]) == 0
    assert (run / "metrics.jsonl").read_text() == before
    wrong = complaint(capsys, "pretrain", "--resume", "--out", str(run), "--optimiser.lr", "1")
    assert "another optimiser.lr (0.001, not 1.0)" in wrong


def test_damaged_checkpoint_is_one_sentence(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in ("config.json", "checkpoint.pt"):
        (tmp_path / file).write_bytes((run / file).read_bytes())
    (tmp_path / "checkpoint.pt").write_bytes((run / "checkpoint.pt").read_bytes()[:5000])
    said = complaint(capsys, "pretrain", "--resume", "--out", str(tmp_path))
    assert str(tmp_path / "checkpoint.pt") in said and "delete the folder" in said


def test_info(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(run)]) == 0
    out = capsys.readouterr().out
    assert "asma-kernels" in out and "last metrics: {" in out and '"steps": 4' in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dance"], "command 'dance' is unknown, commands are demo, table"),
        (["data", "dance"], "command 'dance' is unknown, commands are convert"),
        (["pretrain", "--out", "{tmp}/x", "--data.clips", "gone.npz"], "'gone.npz' is not a file"),
        (["pretrain", "--out", "{tmp}/x", "--data.clips", "clips.zip"], "must end in .npz"),
        (["pretrain", "--out", "{tmp}/x", "--data.protocol", "subject-odd"], "must be field-train-test"),
        (["pretrain", "--out", "{tmp}/x", *SMALL, "--masks.joints", "25"], "less than the 25 joints of ntu25, got 25"),
        (
            ["pretrain", "--out", "{tmp}/x", *SMALL, "--masks.frames", "30"],
            "32 frames of a clip, got 30 + 6",
        ),
        (["pretrain", "--out", "{tmp}/x", *SMALL, "--optimiser.batch", "99"], "at most the 16 training clips, got 99"),
        (["pretrain", "--out", "{tmp}/x", *SMALL, "--device", "cuda:77"], "device cuda:77 cannot be used"),
        (["pretrain", "--out", "{tmp}/gone", "--resume"], "config.json is not there: the folder holds no run"),
        (["pretrain", "--preset", "nope", "--out", "{tmp}/x"], "preset must be one of asma, pstl, cpu, demo"),
        (["pretrain", "--out", "{tmp}/x", "--preset"], "preset must be one of"),
        (["probe"], "give the folder of at least one"),
        (["probe", "{tmp}/gone"], "encoder.safetensors is not there|gone is not there"),
        (["knn"], "give the folder of at least one"),
        (["predict", "{tmp}", "builtin"], "classifier.safetensors is not there"),
        (["distill", "{tmp}", "--out", "{tmp}/x"], "classifier.safetensors is not there"),
        (["knn", "{tmp}"], "encoder.safetensors is not there: a finished pretraining run writes it"),
        (["info", "{tmp}/gone"], "config.json is not there"),
        (["demo", "--seeds", "1", "1", "--out", "{tmp}/x"], "seeds must be different numbers"),
        (["demo", "--data", "gone.npz", "--out", "{tmp}/x"], "'gone.npz' is not a file"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    message = complaint(capsys, *[each.replace("{tmp}", str(tmp_path)) for each in arguments])
    assert any(part in message for part in said.split("|")), message
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("arguments", [["--optimiser.lr", "-1"], ["--optimiser.lrr", "1"], []])
def test_wrong_options_are_named_by_the_parser(tmp_path: Path, capsys, arguments: list[str]) -> None:  # noqa: ANN001
    with pytest.raises(SystemExit) as exit:
        main(["pretrain", "--out", *([str(tmp_path / "x")] if arguments else []), *arguments])
    assert exit.value.code == 2 and "asma pretrain --help" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_clips_of_other_joints_are_mapped(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Transfer between layouts; without a common joint there is none."""
    options = ["probe", str(run), "--clips"]
    for skeleton, said in ((Skeleton.builtin("coco17"), "linear probe"), (Skeleton.from_edges([(0, 1)]), "")):
        V = skeleton.num_joints
        save_clips(tmp_path / f"{V}.npz", ClipSet(
            np.random.default_rng(0).random((40, V, 3)), np.arange(0, 41, 5), np.arange(8) % 2, np.arange(8) // 4 + 1,
            np.zeros(8, int), [f"c{n}" for n in range(8)], ("a", "b"), skeleton, "other", "subject-1-2",
        ))  # fmt: skip
        if said:
            assert main([*options, str(tmp_path / f"{V}.npz")]) == 0 and said in capsys.readouterr().out
        else:
            assert "no counterpart" in complaint(capsys, *options, str(tmp_path / f"{V}.npz"))


def test_usual_split_in_words_asks_for_a_protocol(tmp_path: Path) -> None:
    save_clips(
        tmp_path / "c.npz", replace(builtin_clips(classes=2, subjects=2, views=1, repeats=1), usual_split="by name")
    )
    with pytest.raises(ValueError, match="give one by --data.protocol"):
        open_split(replace(preset("demo").data, clips=str(tmp_path / "c.npz")))


@pytest.mark.parametrize("package", ["tyro", "safetensors"])
def test_missing_extra_is_one_sentence(tmp_path: Path, package: str) -> None:
    (tmp_path / f"{package}.py").write_text("raise ImportError('no such package')\n")
    found = subprocess.run(
        [sys.executable, "-m", "asma", "pretrain", "--out", str(tmp_path / "x"), *SMALL],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2
    assert found.stderr.startswith(f"asma: {package} is needed here") and found.stderr.count("\n") == 1
    assert "pip install 'asma-kernels[train]'" in found.stderr
    assert not (tmp_path / "x").exists()


def test_killed_run_is_resumed_by_another_process(tmp_path: Path) -> None:
    """Not an exception inside Python: the process is gone in mid-step, as when the machine dies."""
    command = [sys.executable, "-m", "asma", "pretrain", "--out", str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    options = [*SMALL, "--optimiser.steps", "80", "--checkpoint-every", "5", "--no-bfloat16"]
    with subprocess.Popen([*command, *options], env=environment) as process:
        while not (tmp_path / "run" / "checkpoint.previous.pt").exists():
            assert process.poll() is None
        process.kill()
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert 5 <= state["step"] < 80
    subprocess.run([*command, "--resume"], env=environment, check=True)
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and steps[-1] == 80


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0 and main([]) == 2
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in cli.COMMANDS)
    assert main(["data", "--help"]) == 0 and main(["data"]) == 2
    assert capsys.readouterr().out.count("  convert   Read clips of any format") == 2
    for name in [[each] for each in cli.COMMANDS if each != "data"] + [["data", each] for each in cli_data.COMMANDS]:
        with pytest.raises(SystemExit) as exit:
            main([*name, "--help"])
        assert exit.value.code == 0


class TestConfigFile:
    @pytest.mark.parametrize("name", PRESETS)
    def test_round_trip(self, name: str) -> None:
        assert from_dict(PretrainConfig, json.loads(json.dumps(to_dict(preset(name))))) == preset(name)

    @pytest.mark.parametrize(
        ("path", "value", "said"),
        [
            ("optimiser.lr", "fast", "config.optimiser.lr must be of type float, got 'fast'"),
            ("optimiser.lr", True, "config.optimiser.lr must be of type float, got True"),
            ("optimiser.batch", 2.5, "config.optimiser.batch must be of type int, got 2.5"),
            ("optimiser.batch", 1, "optimiser.batch must be at least 2, the loss compares clips, got 1"),
            ("encoder.channels", "16", "config.encoder.channels must be a list, got '16'"),
            ("encoder.channels", [16, "x"], "must be of type int, got 'x'"),
            ("encoder.strides", [1], "encoder.strides must be 10 positive numbers"),
            ("masks.degree", "middle", "config.masks.degree must be one of high, low, got 'middle'"),
            ("masks.colour", "red", "config.masks must have no other keys than degree, .*, got 'colour'"),
            ("masks", 3, "config.masks must be an object of keys and values, got 3"),
        ],
    )
    def test_bad_values(self, tmp_path: Path, path: str, value: object, said: str) -> None:
        values = to_dict(PretrainConfig())
        *folders, key = path.split(".")
        place = values
        for folder in folders:
            place = place[folder]
        place[key] = value
        file = tmp_path / "config.json"
        file.write_text(json.dumps(values))
        with pytest.raises(ValueError, match=f"{re.escape(str(file))} is not the config of a run: .*{said}"):
            load_config(file, PretrainConfig)

    def test_missing_key_and_no_json(self, tmp_path: Path) -> None:
        file = tmp_path / "config.json"
        values = to_dict(PretrainConfig())
        del values["seed"]
        file.write_text(json.dumps(values))
        with pytest.raises(ValueError, match="config must have the key seed"):
            load_config(file, PretrainConfig)
        file.write_text("{")
        with pytest.raises(ValueError, match="is not the config of a run"):
            load_config(file, PretrainConfig)

    def test_options_that_came_later_may_be_missing(self) -> None:
        """A run, a classifier or a demo of an earlier version has its clips as they were then."""
        values = to_dict(PretrainConfig())
        del values["data"]["persons"], values["data"]["pipeline"]
        assert from_dict(PretrainConfig, values) == PretrainConfig()

    def test_whole_numbers_are_floats_too(self) -> None:
        assert from_dict(OptimiserConfig, {**to_dict(OptimiserConfig()), "lr": 1}).lr == 1.0

    def test_difference(self) -> None:
        other = replace(PretrainConfig(), masks=config.MASKS["e2"])
        assert difference(to_dict(PretrainConfig()), to_dict(PretrainConfig())) == ""
        assert difference(to_dict(PretrainConfig()), to_dict(other)) == "masks.degree (high, not low)"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
    ],
)
def test_out_of_memory_says_what_to_lower(tmp_path, monkeypatch, capsys, error) -> None:
    def greedy(*arguments, **more):
        raise error

    monkeypatch.setattr(cli, "pretrain", greedy)
    said = complaint(capsys, "pretrain", "--out", str(tmp_path / "run"), *SMALL)
    assert "out of memory" in said and "lower optimiser.batch" in said


def test_an_error_of_ours_is_not_taken_for_a_lack_of_memory(tmp_path, monkeypatch) -> None:
    def broken(*arguments, **more):
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "pretrain", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["pretrain", "--out", str(tmp_path / "run"), *SMALL])
