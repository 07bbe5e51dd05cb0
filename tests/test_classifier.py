"""The file of a teacher or student: it gives back what was saved, or one sentence, and never costs an older one."""

import json
import os
import pickle
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from classifiers import (
    CLIPS,
    DATA,
    X,
    answers,
    assert_same_weights,
    content,
    small_student,
    teacher,
    two_encoders,
    untrained_teacher,
)
from torch import nn

from asma.checkpoint import save_encoder
from asma.classifier import CLASSIFIER_FILE, Classifier, count_parameters, load_classifier, save_classifier
from asma.cli import main
from asma.models.alignment import Alignment


@pytest.fixture(autouse=True)
def one_thread():
    """See test_pretrain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / CLASSIFIER_FILE
    save_classifier(path, small_student(), {"steps": 7})
    return path


def header_of(whole: bytes) -> dict:
    return json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])


def with_header(whole: bytes, header: dict) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + whole[8 + int.from_bytes(whole[:8], "little") :]


@pytest.mark.parametrize("start", [teacher, small_student])
def test_round_trip_gives_equal_predictions(tmp_path: Path, start: Callable[[], Classifier]) -> None:
    model = start()
    notes = {"top1": 0.5, "nested": {"list": [1, None, "text"]}}
    save_classifier(tmp_path / CLASSIFIER_FILE, model.train(), notes)
    for path in (tmp_path, tmp_path / CLASSIFIER_FILE, str(tmp_path)):
        loaded, found = load_classifier(path)
        assert found == notes and not any(module.training for module in loaded.modules())
        assert torch.equal(answers(loaded), answers(model.eval()))
        assert_same_weights(loaded, model)
        assert (loaded.classes, loaded.data, loaded.skeleton) == (CLIPS.classes, DATA, CLIPS.skeleton)


@pytest.mark.parametrize("mode", ["aligned", "mean", "concat"])
def test_what_is_loaded_goes_on_to_learn_as_what_was_saved(tmp_path: Path, mode: str) -> None:
    """Its dropouts are the same too."""
    encoders = two_encoders()
    alignment = Alignment(encoders[0].features, 16, mode, dropout=0.7)
    model = Classifier(encoders, alignment, nn.Linear(alignment.features, 3), CLIPS.classes, DATA)
    save_classifier(tmp_path / CLASSIFIER_FILE, model, {})
    found = []
    for each in (model, load_classifier(tmp_path)[0]):
        torch.manual_seed(0)
        found.append(each.train()(X))
    assert torch.equal(*found)


def test_names_of_classes_are_kept_letter_by_letter(tmp_path: Path) -> None:
    names = ("<b>&", 'quote " and \\', "Grüße, 走る", "line\nbreak")
    model = Classifier(small_student().encoders, None, nn.Linear(12, 4), names, DATA)
    save_classifier(tmp_path / CLASSIFIER_FILE, model, {})
    assert load_classifier(tmp_path)[0].classes == names


def test_others_may_read_the_file_as_any_other(file: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("part", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_a_truncated_file_is_one_error_and_stays(file: Path, part: float) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: int(part * len(whole))])
    before = content(file.parent)
    with pytest.raises(ValueError, match=f"^{file} is not a classifier of asma") as error:
        load_classifier(file)
    assert "\n" not in str(error.value)
    assert content(file.parent) == before


def test_bytes_anywhere_never_give_another_model(file: Path) -> None:
    """safetensors has no checksum of its own."""
    whole = file.read_bytes()
    model, notes = load_classifier(file)
    for place in range(0, len(whole), 97):
        damaged = bytearray(whole)
        damaged[place] ^= 0x01
        file.write_bytes(damaged)
        try:
            found, found_notes = load_classifier(file)
        except ValueError as error:
            assert str(file) in str(error)
        else:
            assert (found.classes, found_notes) == (model.classes, notes)
            assert_same_weights(found, model)


def test_one_bit_in_the_weights_or_one_letter_of_a_class_is_a_wrong_checksum(file: Path) -> None:
    whole = file.read_bytes()
    weights = bytearray(whole)
    weights[-5] ^= 1
    header = header_of(whole)
    header["__metadata__"]["classifier"] = header["__metadata__"]["classifier"].replace("sit down", "sit dawn")
    for damaged in (weights, with_header(whole, header)):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="is not a classifier of asma .*its checksum is wrong"):
            load_classifier(file)


def test_a_file_without_a_checksum_is_read_as_it_is(file: Path) -> None:
    whole = file.read_bytes()
    header = header_of(whole)
    del header["__metadata__"]["checksum"]
    file.write_bytes(with_header(whole, header))
    assert_same_weights(load_classifier(file)[0], small_student())


def test_files_of_other_things_are_said_to_be_none(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(tmp_path / "ran"),))

    save_encoder(tmp_path / "encoder.safetensors", two_encoders()[0], {})
    torch.save(small_student().state_dict(), tmp_path / "torch.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "text.json").write_text("{}")
    for file in list(tmp_path.iterdir()):
        with pytest.raises(ValueError, match=f"^{file} is not a classifier of asma"):
            load_classifier(file)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(FileNotFoundError, match="a probe of both encoders or a distillation writes it"):
        load_classifier(tmp_path)


def test_a_full_disk_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(file.parent)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(os, "fsync", full)
        save_classifier(file, untrained_teacher(), {})
    assert content(file.parent) == before
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_classifier(file, untrained_teacher(), {"notes": object()})
    assert content(file.parent) == before


def test_saving_again_replaces_the_file(file: Path) -> None:
    save_classifier(file, untrained_teacher(), {})
    assert torch.equal(answers(load_classifier(file)[0]), answers(untrained_teacher()))
    assert [each.name for each in file.parent.iterdir()] == [CLASSIFIER_FILE]


def test_commands_with_a_damaged_teacher_say_one_sentence_and_write_nothing(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_bytes(file.read_bytes()[:-100])
    before = content(tmp_path)
    for command in (["distill", str(tmp_path), "--out", str(tmp_path / "x")], ["predict", str(tmp_path), "builtin"]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"asma: {file} is not a classifier of asma") and said.count("\n") == 1
    assert content(tmp_path) == before


def test_frozen_parameters_count_and_buffers_do_not() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    model[0].requires_grad_(False)
    assert count_parameters(model) == 4 * 3 + 3 + 2 * 3
