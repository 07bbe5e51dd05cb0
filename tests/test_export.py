"""What asma export writes gives the numbers of PyTorch in the runtimes that read it."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from edge_engine import logits_of, student

from asma.classifier import save_classifier
from asma.cli import main
from asma.config import DataConfig
from asma.export import PlainClassifier, export
from asma.folded import fold
from asma.onnx_file import onnx_bytes
from asma_kernels import Skeleton

NTU, UTD = Skeleton.builtin("ntu25"), Skeleton.builtin("utd20")
TWO = DataConfig(frames=13, persons=2)
MODELS = {
    "student": lambda: student(NTU, (8, 8, 12), (1, 1, 2)),
    "two persons, segments": lambda: student(UTD, (8, 12), (2, 2), TWO, segments=3),
    "teacher": lambda: student(UTD, data=TWO, encoders=2, segments=2),
    "one partition, one tap": lambda: student(UTD, partition="uniform", kernel=1),
}
PLAIN = {
    "Transpose", "Reshape", "Squeeze", "Mul", "Add", "MatMul", "Concat", "Conv", "Relu", "ReduceMean", "Gemm",
    "Shape", "Gather", "Div", "Sub", "Slice",
}  # fmt: skip


def clips(model, N, T):
    shape = (N, 3, T, model.skeleton.num_joints, model.data.persons)
    return torch.randn(shape, generator=torch.Generator().manual_seed(N + T))


def near(found, model, x):
    np.testing.assert_allclose(found, logits_of(model, x), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_folded_numbers_are_those_of_the_model(name):
    model = MODELS[name]()
    plain = PlainClassifier(fold(model)).eval()
    for N, T in ((1, 13), (3, 30)):
        with torch.no_grad():
            near(plain(clips(model, N, T)).numpy(), model, clips(model, N, T))


@pytest.fixture(scope="module")
def onnx():
    return pytest.importorskip("onnx", reason="onnx is not installed: pip install 'asma-kernels[export]'")


@pytest.mark.parametrize("name", MODELS)
def test_onnx_has_plain_operators_and_says_what_goes_in(onnx, name):
    model = MODELS[name]()
    file = onnx.load_from_string(onnx_bytes(model))
    assert {node.op_type for node in file.graph.node} <= PLAIN and not {node.domain for node in file.graph.node} - {""}
    (clips_in,) = file.graph.input
    sizes = [size.dim_param or size.dim_value for size in clips_in.type.tensor_type.shape.dim]
    assert sizes == ["N", 3, "T", model.skeleton.num_joints, model.data.persons]
    notes = {entry.key: json.loads(entry.value) for entry in file.metadata_props}
    assert notes["classes"] == list(model.classes) and notes["data"]["frames"] == model.data.frames


@pytest.mark.parametrize("name", MODELS)
def test_onnx_runtime_agrees_at_any_batch_and_length(onnx, name):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = MODELS[name]()
    session = runtime.InferenceSession(onnx_bytes(model), providers=["CPUExecutionProvider"])
    for N, T in ((1, 13), (3, 30), (2, 7)):
        x = clips(model, N, T)
        near(session.run(["logits"], {"clips": x.numpy()})[0], model, x)


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
def test_openvino_agrees_at_any_batch_and_length(onnx, tmp_path):
    """In a process of its own: to import OpenVINO takes standard error away from tests that come after it."""
    expected = {}
    for place, make in enumerate(MODELS.values()):
        model = make()
        (tmp_path / f"{place}.onnx").write_bytes(onnx_bytes(model))
        for N, T in ((1, 13), (3, 30)):
            np.save(tmp_path / f"{place}-{N}.npy", clips(model, N, T).numpy())
            expected[f"{place}-{N}.out.npy"] = model, clips(model, N, T)
    script = (
        "import pathlib, numpy, openvino\n"
        "core = openvino.Core()\n"
        "for path in pathlib.Path('.').glob('*.onnx'):\n"
        "    compiled = core.compile_model(core.read_model(path), 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})\n"
        "    for x in pathlib.Path('.').glob(f'{path.stem}-?.npy'):\n"
        "        numpy.save(f'{x.stem}.out.npy', compiled([numpy.load(x)])[0])\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)
    for name, (model, x) in expected.items():
        near(np.load(tmp_path / name), model, x)


def test_torch_program_is_loaded_by_torch_alone(tmp_path):
    """In a process that has nothing of ours, at other batches and lengths."""
    model = MODELS["two persons, segments"]()
    assert export(model, "torch", tmp_path / "student.pt2") == (tmp_path / "student.pt2").stat().st_size
    inputs = [clips(model, N, T) for N, T in ((1, 13), (3, 30))]
    torch.save(inputs, tmp_path / "inputs.pt")
    script = (
        "import sys, torch\n"
        "program = torch.export.load('student.pt2').module()\n"
        "torch.save([program(x) for x in torch.load('inputs.pt')], 'outputs.pt')\n"
        "assert not any(name.split('.')[0] in ('asma', 'asma_kernels') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    for x, found in zip(inputs, torch.load(tmp_path / "outputs.pt"), strict=True):
        near(found.detach().numpy(), model, x)


def test_the_command_writes_each_form(tmp_path, capsys):
    save_classifier(tmp_path / "classifier.safetensors", student(UTD), {})
    forms = ["edge", "onnx"] if importlib.util.find_spec("onnx") else ["edge"]
    for to in forms:
        out = tmp_path / f"student.{to}"
        assert main(["export", str(tmp_path), "--to", to, "--out", str(out)]) == 0
        assert f"{out}: {out.stat().st_size:,} bytes, {to}, " in capsys.readouterr().out


def test_the_command_says_which_extra_is_missing(tmp_path, capsys, monkeypatch):
    save_classifier(tmp_path / "classifier.safetensors", student(UTD), {})
    monkeypatch.setitem(sys.modules, "onnx", None)
    out = tmp_path / "student.onnx"
    assert main(["export", str(tmp_path), "--to", "onnx", "--out", str(out)]) == 2
    assert "pip install 'asma-kernels[export]'" in capsys.readouterr().err and not out.exists()


def test_forms_that_are_unknown_and_files_that_cannot_be_written(tmp_path):
    model = student(UTD)
    with pytest.raises(ValueError, match="export: to must be one of edge, onnx, torch, got 'tflite'"):
        export(model, "tflite", tmp_path / "x")
    (tmp_path / "file").write_text("what was there")
    with pytest.raises(OSError):
        export(model, "edge", tmp_path / "file" / "student.edge")
    assert (tmp_path / "file").read_text() == "what was there"
