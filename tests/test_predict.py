"""One clip's action: from a set or a file, and whatever may be wrong with either."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from classifiers import CLIPS, DATA, LABELS, answers, small_student, teacher
from torch import nn

from asma.classifier import Classifier
from asma.data import save_clips
from asma.predict import Prediction, clip_number, clip_of_file, predict, predict_of_set
from asma_kernels import Skeleton

CLIP = CLIPS.clip(0)


@pytest.fixture(autouse=True)
def one_thread():
    """See test_pretrain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("start", [teacher, small_student])
def test_it_is_what_the_model_says_of_the_clip_in_a_batch(start: Callable[[], Classifier]) -> None:
    model = start()
    for clip, expected in enumerate(answers(model).exp().tolist()):
        found = predict(model, CLIPS.clip(clip))
        by_class = dict(zip(found.classes, found.probabilities, strict=True))
        assert [by_class[name] for name in CLIPS.classes] == pytest.approx(expected, abs=1e-5)


def test_classes_come_from_likely_to_unlikely_and_add_up_to_one() -> None:
    model = teacher()
    first = []
    for clip in range(len(CLIPS)):
        found = predict(model, CLIPS.clip(clip))
        assert sorted(found.classes) == sorted(CLIPS.classes)
        assert list(found.probabilities) == sorted(found.probabilities, reverse=True)
        assert sum(found.probabilities) == pytest.approx(1, abs=1e-6)
        first.append(CLIPS.classes.index(found.classes[0]))
    assert first == LABELS.tolist()


def test_equally_likely_classes_keep_their_order() -> None:
    model = small_student()
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    found = predict(model, CLIP)
    assert found.classes == CLIPS.classes and found.probabilities == pytest.approx([1 / 3] * 3)


def test_a_model_in_training_answers_as_in_evaluation_and_stays_in_training() -> None:
    model, expected = teacher(), predict(teacher(), CLIP)
    model.train()
    model.head.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert predict(model, CLIP) == expected
    assert model.training and model.alignment.training and not model.head.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_other_types_of_the_same_numbers_give_the_same_answer() -> None:
    model = small_student()
    expected = predict(model, CLIP)
    for clip in (CLIP.astype(np.float64), CLIP.tolist(), torch.from_numpy(CLIP.copy()), CLIP.copy(order="F")):
        assert predict(model, clip) == expected
    millimetres = np.round(1000 * CLIP).astype(np.int32)
    assert predict(model, millimetres) == predict(model, millimetres.astype(np.float32))


def test_a_single_frame_is_a_clip() -> None:
    model = small_student()
    assert predict(model, CLIP[:1]) == predict(model, np.repeat(CLIP[:1], 7, axis=0))


def with_value(value: float) -> np.ndarray:
    clip = CLIP.copy()
    clip[3, 2, 1] = value
    return clip


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (CLIP[:0], "a clip must have at least one frame, got none"),
        (CLIP[:, :20], "a clip must have the 25 joints of ntu25, on which the model was trained, got 20"),
        (CLIP[..., :2], r"a clip must be \(T, 25, 3\), got shape \(\d+, 25, 2\)"),
        (CLIP[0], r"a clip must be \(T, 25, 3\), got shape \(25, 3\)"),
        (3.0, r"a clip must be \(T, 25, 3\), got shape \(\)"),
        (with_value(np.nan), r"coordinates must be finite, got nan at frame 3, joint 2 \("),
        (with_value(-np.inf), r"coordinates must be finite, got -inf at frame 3, joint 2 \("),
        (1e60 * CLIP.astype(np.float64), "coordinates must be finite, got -?inf at frame 0"),
        (CLIP > 0, "a clip must be of real numbers, got bool"),
        (CLIP * 1j, "a clip must be of real numbers, got complex64"),
        ("clip", "a clip must be of real numbers, got <U4"),
        (None, "a clip must be of real numbers, got object"),
        ([[[1.0, 2.0, 3.0]], [[1.0]]], "a clip must be an array of real numbers, but "),
        (torch.zeros(2, 25, 3, requires_grad=True), "a clip must be an array of real numbers, but "),
    ],
)  # fmt: skip
def test_bad_clips_end_in_one_sentence(clip: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^predict: {message}"):
        predict(small_student(), clip)


def test_an_answer_that_is_not_finite_is_an_error_not_a_prediction() -> None:
    far = CLIP.copy()
    far[:, ::2], far[:, 1::2] = 3e38, -3e38  # finite, but their differences are not
    plain, broken = small_student(), small_student()
    plain.data = replace(DATA, face="none", scale=False)
    nn.init.constant_(broken.head.bias, torch.nan)
    for model, clip in ((plain, far), (broken, CLIP)):
        with np.errstate(over="ignore"), pytest.raises(ValueError, match="^predict: the model's answer is not finite"):
            predict(model, clip)


def test_the_five_likeliest_are_shown() -> None:
    found = Prediction(tuple("abcdef"), (0.5, 0.25, 0.125, 0.0625, 0.05, 0.0125))
    assert str(found) == " 50.0 %  a\n 25.0 %  b\n 12.5 %  c\n  6.2 %  d\n  5.0 %  e"


def test_a_clip_of_a_set_by_name_and_by_number() -> None:
    name = str(CLIPS.name[5])
    for which in (name, 5, "5", np.int64(5)):
        assert clip_number(CLIPS, which) == 5
    numbered = replace(CLIPS, name=np.array([str(23 - clip) for clip in range(24)]))
    assert clip_number(numbered, "20") == 3  # a name before a number
    assert clip_number(numbered, 20) == 20


def test_a_clip_of_a_set_is_answered_as_its_frames_are() -> None:
    model = teacher()
    assert predict_of_set(model, CLIPS, 5) == predict(model, CLIPS.clip(5))
    other = replace(CLIPS, data=CLIPS.data[:, :20], skeleton=Skeleton.builtin("ucla20"))
    with pytest.raises(ValueError, match="predict: a clip must have the 25 joints of ntu25, .*, got 20"):
        predict_of_set(model, other, 5)


def test_an_unknown_clip_is_answered_by_near_names() -> None:
    name = str(CLIPS.name[5])
    with pytest.raises(ValueError, match=rf"number from 0 to 23 of built-in .*, got '{name}x'; .*{name}"):
        clip_number(CLIPS, name + "x")
    for which in ("qqq", 24, -1, "-1", "1.0", "", "²"):
        with pytest.raises(ValueError, match=f"clip must be a name or a number .*, got '{which}'") as error:
            clip_number(CLIPS, which)
        assert str(error.value).count("_s") == 3


def test_a_clip_of_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", CLIP)
    np.savez_compressed(tmp_path / "named.npz", other=np.zeros(3), data=CLIP)
    for name in ("one.npz", "named.npz"):
        found = clip_of_file(tmp_path / name)
        np.testing.assert_array_equal(found, CLIP)
        assert predict(small_student(), found) == predict(small_student(), CLIP)
    np.testing.assert_array_equal(clip_of_file(str(tmp_path / "one.npz")), CLIP)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_files_that_hold_no_clip_are_one_sentence(tmp_path: Path) -> None:
    save_clips(tmp_path / "set.npz", CLIPS)
    np.savez(tmp_path / "scalar.npz", data=CLIP, offsets=0)
    np.savez(tmp_path / "several.npz", first=CLIP, second=CLIP)
    np.savez(tmp_path / "none.npz")
    np.savez(tmp_path / "pickled.npz", data=np.array([{"a": 1}], dtype=object))
    (tmp_path / "array.npy").write_bytes(npy(CLIP))
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "text.npz").write_text("x, y, z")
    for name, members in (
        ("member", {"readme.txt": b"no array"}),
        ("header", {"data.npy": npy(CLIP)[:8] + b"\xff" * 60 + npy(CLIP)[68:]}),
        ("short", {"data.npy": npy(CLIP)[:-10]}),
        ("unclosed", {"data.npy": npy(CLIP).replace(b"}", b" ")}),
    ):
        with zipfile.ZipFile(tmp_path / f"{name}.npz", "w") as archive:
            for member, text in members.items():
                archive.writestr(member, text)
    for name, message in (
        ("set.npz", "must hold one clip, it holds a set of 24: name one of them"),
        ("scalar.npz", "must hold one clip, it holds a set of 0"),
        ("several.npz", "must hold one array, or one called data, it holds first, second"),
        ("none.npz", "must hold one array, or one called data, it holds none"),
        ("pickled.npz", "must be an .npz file without pickled objects, but "),
        ("array.npy", "must be an .npz file without pickled objects, but it is not a zip archive"),
        ("empty.npz", "must be an .npz file .*, but it is not a zip archive"),
        ("text.npz", "must be an .npz file .*, but it is not a zip archive"),
        ("member.npz", "must be an .npz file .*, but readme.txt is not an array"),
        ("header.npz", "must be an .npz file .*, but "),
        ("short.npz", "must be an .npz file .*, but "),
        ("unclosed.npz", "must be an .npz file .*, but "),
    ):
        with pytest.raises(ValueError, match=f"^{tmp_path / name} {message}"):
            clip_of_file(tmp_path / name)
    for name in ("gone.npz", "."):
        with pytest.raises(FileNotFoundError, match="is not there"):
            clip_of_file(tmp_path / name)


def test_bytes_anywhere_in_a_file_never_give_another_clip(tmp_path: Path) -> None:
    file = tmp_path / "clip.npz"
    np.savez(file, CLIP[:4])
    whole = file.read_bytes()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        file.write_bytes(damaged)
        try:
            found = clip_of_file(file)
        except ValueError as error:
            assert str(file) in str(error)
        else:
            np.testing.assert_array_equal(found, CLIP[:4])
