"""Files of a run: damaged ones are named, strangers' pickles do nothing, and a crash leaves the old file."""

import json
import os
import pickle
import stat
from pathlib import Path

import pytest
import torch

from asma import checkpoint
from asma.checkpoint import (
    load_checkpoint,
    load_encoder,
    load_pstl_weights,
    save_checkpoint,
    save_encoder,
    skeleton_from_dict,
    skeleton_to_dict,
)
from asma.config import EncoderConfig
from asma.files import write_atomically
from asma.models import Encoder
from asma_kernels import Skeleton

KIND = "test checkpoint"
STATE = {"step": 3, "weights": torch.arange(5000.0), "nested": {"list": [1, 2.5, "text", None], "bytes": torch.ones(3)}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, KIND, STATE)
    return path


@pytest.fixture
def encoder() -> Encoder:
    config = EncoderConfig(channels=(4, 8), strides=(1, 2), kernel=3)
    encoder = Encoder(config, Skeleton.builtin("ucla20"))
    encoder(torch.randn(4, 3, 8, 20, 1))  # running statistics that are not the first ones
    return encoder.eval()


def test_round_trip(file: Path) -> None:
    content = load_checkpoint(file, KIND)
    assert content["step"] == 3 and content["nested"]["list"] == [1, 2.5, "text", None]
    assert torch.equal(content["weights"], STATE["weights"])
    assert content["versions"]["torch"] == str(torch.__version__)
    assert [each.name for each in file.parent.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_cut_off(file: Path, part: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match=f"checkpoint {file} cannot be read .* start the run again"):
        load_checkpoint(file, KIND)


def test_one_bit_in_the_weights(file: Path) -> None:
    """torch.load alone would not notice."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert torch.load(file, weights_only=True)["step"] == 3
    with pytest.raises(ValueError, match="cannot be read .*checksum of .* is wrong"):
        load_checkpoint(file, KIND)


def test_bits_anywhere_never_give_other_numbers(file: Path) -> None:
    """Whatever byte is changed, the result is one sentence or what was saved."""
    whole = file.read_bytes()
    for place in range(0, len(whole), 997):
        content = bytearray(whole)
        content[place] ^= 0xFF
        file.write_bytes(content)
        try:
            found = load_checkpoint(file, KIND)
        except ValueError as error:
            assert str(file) in str(error)
        else:
            assert torch.equal(found["weights"], STATE["weights"])


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"format": 1, "kind": KIND, "evil": Evil()}, tmp_path / "zip.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    for name in ("zip.pt", "pickle.pt"):
        with pytest.raises(ValueError, match=r"cannot be read"):
            load_checkpoint(tmp_path / name, KIND)
        with pytest.raises(ValueError, match="not a state dict"):
            load_pstl_weights(Encoder(EncoderConfig(), Skeleton.builtin("ntu25")), tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_other_files(tmp_path: Path, file: Path) -> None:
    with pytest.raises(ValueError, match="must hold a classifier, it holds a test checkpoint"):
        load_checkpoint(file, "classifier")
    torch.save({"weights": torch.zeros(3)}, file)
    with pytest.raises(ValueError, match="was not written by asma"):
        load_checkpoint(file, KIND)
    with pytest.raises(FileNotFoundError, match="nothing to go on from"):
        load_checkpoint(tmp_path / "missing.pt", KIND)


def test_newer_format_says_which_version_wrote_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    save_checkpoint(file, KIND, STATE)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="has format 2, this version reads 1: use asma-kernels 0"):
        load_checkpoint(file, KIND)


def test_crash_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def crash(part: Path) -> None:
        part.write_text("half of the n")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, crash)
    assert path.read_text() == "old" and [each.name for each in tmp_path.iterdir()] == ["file"]


def test_written_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append("fsync") or fsync(handle))
    monkeypatch.setattr(os, "replace", lambda *paths: calls.append("replace") or replace(*paths))
    write_atomically(tmp_path / "file", lambda part: part.write_text("new"))
    assert calls == ["fsync", "replace", "fsync"]


def test_encoder_round_trip(tmp_path: Path, encoder: Encoder) -> None:
    save_encoder(tmp_path / "encoder.safetensors", encoder, {"steps": 7})
    for path in (tmp_path, tmp_path / "encoder.safetensors"):
        loaded, notes = load_encoder(path)
        assert notes == {"steps": 7} and not loaded.training
        assert loaded.skeleton == encoder.skeleton and loaded.config == encoder.config
        x = torch.randn(2, 3, 8, 20, 1)
        assert torch.equal(loaded(x), encoder(x))
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "encoder.safetensors").stat().st_mode) == 0o666 & ~umask


def test_damaged_encoders(tmp_path: Path, encoder: Encoder) -> None:
    path = tmp_path / "encoder.safetensors"
    save_encoder(path, encoder, {})
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=f"{path} is not an encoder of asma"):
        load_encoder(path)
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    header["__metadata__"]["encoder"] = json.dumps({"channels": [4]})
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + int.from_bytes(whole[:8], "little") :])
    with pytest.raises(ValueError, match="encoder must have the key"):
        load_encoder(path)
    with pytest.raises(FileNotFoundError, match="a finished pretraining run writes it"):
        load_encoder(tmp_path / "nothing")


@pytest.mark.parametrize(
    "skeleton",
    [
        Skeleton.builtin("ntu25"),
        Skeleton.from_edges([(0, 1), (1, 2), (2, 0)], names=["a", "b", "c"], flip=[0, 2, 1], parents=[0, 0, 0]),
        Skeleton.from_edges([(0, 1)], name="pair"),
    ],
)
def test_skeleton_round_trip(skeleton: Skeleton) -> None:
    assert skeleton_from_dict(json.loads(json.dumps(skeleton_to_dict(skeleton)))) == skeleton


@pytest.mark.parametrize("prefix", ["", "module."])
def test_pstl_state_dict_loads(tmp_path: Path, prefix: str) -> None:
    source, target = (Encoder(EncoderConfig(), Skeleton.builtin("ntu25")).eval() for _ in range(2))
    state = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    state[f"{prefix}fc.weight"] = torch.zeros(60, 256)
    torch.save(state, tmp_path / "pstl.pt")
    load_pstl_weights(target, tmp_path / "pstl.pt")
    x = torch.randn(2, 3, 10, 25, 2)
    assert torch.equal(target(x), source(x))


def test_pstl_state_dict_of_another_size(tmp_path: Path, encoder: Encoder) -> None:
    torch.save(Encoder(EncoderConfig(), Skeleton.builtin("ntu25")).state_dict(), tmp_path / "pstl.pt")
    with pytest.raises(ValueError, match="pstl.pt does not fit the encoder: .*data_bn.weight"):
        load_pstl_weights(encoder, tmp_path / "pstl.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="list.pt is not a state dict"):
        load_pstl_weights(encoder, tmp_path / "list.pt")
