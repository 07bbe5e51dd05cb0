"""bench.edge's rows for bfloat16 and int8: ours, and the others at the same precision.

OpenVINO runs bfloat16 by its inference precision hint. ONNX Runtime has no bfloat16 on processors. int8 is
onnxruntime.quantization's static quantisation (QDQ, uint8 features, int8 weights by channel), which both run; it is
calibrated by the clips that ours is.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from edge_engine import Engine
from numpy.typing import NDArray

from asma.classifier import Classifier
from asma.edge_file import edge_bytes
from asma.onnx_file import INPUT, onnx_bytes
from asma.precision import PRECISIONS

CALIBRATED_BY = 16
NEAR = {"bfloat16": 0.01, "int8": 0.05}
"""The gate: the largest difference of a logit from float32, as a part of the largest logit."""
WANTED = 2.0
Work = Callable[[], Any]


def measure(
    model: Classifier,
    engine: Engine,
    x: torch.Tensor,
    expected: NDArray[np.float32],
    folder: Path,
    timed: Callable[[dict[str, Work]], dict[str, float]],
) -> dict[str, dict[str, dict[str, float]]]:
    """By precision and runtime, ours first: seconds, and the largest difference from float32's logits.

    Args:
        model: a student.
        engine: ours.
        x: a clip (1, C, T, V, M).
        expected: float32's logits of it.
        folder: for the others' files.
        timed: the seconds of each.
    """
    found = {}
    for precision, works in _runtimes(model, engine, x, folder).items():
        differences = {name: float(np.abs(work() - expected).max()) for name, work in works.items()}
        _check(differences, precision, float(np.abs(expected).max()))
        seconds = timed(works)
        found[precision] = {name: {"seconds": seconds[name], "difference": differences[name]} for name in works}
    return found


def table(found: dict[str, dict[str, dict[str, float]]], float32: float) -> list[str]:
    """Lines of Markdown; float32: seconds of ours."""
    lines = [
        "",
        "| at a precision | ms of the processor | ours takes less by | than our float32 | difference from float32 |",
        "|---|---|---|---|---|",
    ]
    for works in found.values():
        (_, ours), *_ = works.items()
        for place, (name, each) in enumerate(works.items()):
            less = f"{each['seconds'] / ours['seconds']:.2f}x" if place else ""
            own = "" if place else f"{float32 / each['seconds']:.2f}x"
            lines.append(f"| {name} | {1e3 * each['seconds']:.3f} | {less} | {own} | {each['difference']:.1e} |")
    return lines


def figures(found: dict[str, dict[str, dict[str, float]]]) -> list[tuple[str, str, str, bool]]:
    """What was wanted of each precision that others have: name, found, wanted, met."""
    lines = []
    for precision, works in found.items():
        ours, *others = (each["seconds"] for each in works.values())
        if others:
            ratio = min(others) / ours
            lines.append(
                (
                    f"latency at {precision} against the best of the others",
                    f"{ratio:.2f}x",
                    f">= {WANTED:g}x",
                    ratio >= WANTED,
                )
            )
    return lines


def _check(differences: dict[str, float], precision: str, largest: float) -> None:
    """The gate: nothing is timed unless all agree."""
    for name, difference in differences.items():
        if not difference < NEAR[precision] * largest:
            raise SystemExit(
                f"bench.edge: {name} must agree with float32 to {NEAR[precision]:g} of the largest logit, "
                f"{largest:.3g}, it differs by {difference:.3g}"
            )


def _runtimes(model: Classifier, engine: Engine, x: torch.Tensor, folder: Path) -> dict[str, dict[str, Work]]:
    """Those that are installed, by precision."""
    clips = torch.randn(CALIBRATED_BY, *x.shape[1:], generator=torch.Generator().manual_seed(1))
    array, made = x.numpy(), {}
    for precision in PRECISIONS[1:]:
        stream = engine.open(edge_bytes(model, precision, clips)).start()
        multiplies = stream.model.description.multiplies.decode()
        name = f"ours, {precision}" + (f" (multiplied as {multiplies})" if multiplies != precision else "")
        made[precision] = {name: lambda stream=stream: stream.predict_prepared(array[0])[None]}
    there = {name for name in ("onnx", "onnxruntime", "openvino") if importlib.util.find_spec(name)}
    if "onnx" not in there:
        return made
    (folder / "float32.onnx").write_bytes(onnx_bytes(model))
    if "openvino" in there:
        made["bfloat16"]["OpenVINO, bfloat16"] = _openvino(folder / "float32.onnx", "bf16", array)
    if "onnxruntime" in there:
        whole = _quantised(folder, clips)
        made["int8"]["ONNX Runtime, int8"] = _onnxruntime(whole, array)
        if "openvino" in there:
            made["int8"]["OpenVINO, int8"] = _openvino(whole, "f32", array)
            made["int8"]["OpenVINO, int8 and bfloat16"] = _openvino(whole, "bf16", array)
    return made


def _quantised(folder: Path, clips: torch.Tensor) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Clips(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches: Iterator[torch.Tensor] = iter(clips.split(1))

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch.numpy()}

    ready, out = folder / "ready.onnx", folder / "int8.onnx"
    quant_pre_process(str(folder / "float32.onnx"), str(ready))
    quantize_static(
        str(ready), str(out), Clips(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return out


def _onnxruntime(path: Path, array: NDArray[np.float32]) -> Work:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {INPUT: array})[0]


def _openvino(path: Path, hint: str, array: NDArray[np.float32]) -> Work:
    import openvino

    hints = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    read = openvino.Core().read_model(str(path))
    read.reshape({INPUT: array.shape})
    request = openvino.Core().compile_model(read, "CPU", hints).create_infer_request()
    return lambda: request.infer([array])[0]
