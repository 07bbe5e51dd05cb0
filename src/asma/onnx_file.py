"""A classifier as an ONNX graph of plain operators, for any number of clips and frames."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .classifier import Classifier
from .config_file import to_dict
from .extras import extra
from .folded import FoldedBlock, FoldedEncoder, fold

__all__ = ["INPUT", "OPSET", "OUTPUT", "onnx_bytes"]

OPSET, IR_VERSION = 18, 9
INPUT, OUTPUT = "clips", "logits"


def onnx_bytes(model: Classifier) -> bytes:
    """A file with input clips (N, C, T, V, M), prepared as `asma.prepare` does, and output logits (N, classes).

    N and T are free; the operators are Transpose, Reshape, Squeeze, Mul, Add, MatMul, Concat, Conv, Relu, ReduceMean,
    Gemm and, for more than one segment, Shape, Gather, Div, Sub and Slice. Classes, joints and the preparation stand in
    the file's metadata as JSON.

    Raises:
        ValueError: a number of the model is not finite.
        MissingExtraError: onnx is not installed.
    """
    onnx = extra("onnx", "export")
    helper, data = onnx.helper, model.data
    folded = fold(model)
    graph = _Graph(helper, onnx.numpy_helper)
    x = graph.add("Transpose", [INPUT], perm=[0, 4, 1, 2, 3])  # (N, M, C, T, V)
    features = [_encode(graph, encoder, x, data.persons) for encoder in folded.encoders]
    found = graph.add("Concat", features, axis=1) if len(features) > 1 else features[0]
    if folded.hidden is not None:
        found = graph.add("Relu", [graph.add("Gemm", [found, *map(graph.constant, folded.hidden)])])
    graph.add("Gemm", [found, *map(graph.constant, folded.head)], output=OUTPUT)
    C, V = model.first_encoder.config.in_channels, model.skeleton.num_joints
    number = onnx.TensorProto.FLOAT
    clips = helper.make_tensor_value_info(INPUT, number, ["N", C, "T", V, data.persons])
    logits = helper.make_tensor_value_info(OUTPUT, number, ["N", len(model.classes)])
    made = helper.make_graph(graph.nodes, "asma", [clips], [logits], graph.constants)
    opset = helper.make_opsetid("", OPSET)
    file = helper.make_model(made, opset_imports=[opset], ir_version=IR_VERSION, producer_name="asma-kernels")
    notes = {"classes": list(model.classes), "joints": list(model.skeleton.names), "data": to_dict(data)}
    helper.set_model_props(file, {name: json.dumps(value) for name, value in notes.items()})
    onnx.checker.check_model(file, full_check=True)
    content: bytes = file.SerializeToString()
    return content


class _Graph:
    """Nodes and constants as they are added; values by name."""

    def __init__(self, helper: Any, numpy_helper: Any) -> None:
        self.helper, self.numpy_helper = helper, numpy_helper
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, value: NDArray[Any] | list[int]) -> str:
        array = np.array(value, np.int64) if isinstance(value, list) else value.astype(np.float32)
        name = f"constant_{len(self.constants)}"
        self.constants.append(self.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name


def _encode(graph: _Graph, encoder: FoldedEncoder, x: str, persons: int) -> str:
    """(N, M, C, T, V) -> (N, features)."""
    for operator, value in (("Mul", encoder.scale), ("Add", encoder.shift)):
        x = graph.add(operator, [x, graph.constant(value.T[:, None])])  # (C, 1, V)
    V, C = encoder.scale.shape
    if persons == 1:
        x = graph.add("Squeeze", [x, graph.constant([1])])
    else:
        # T first: of two free sizes one must stay where it is.
        x = graph.add("Transpose", [x], perm=[3, 0, 1, 2, 4])
        x = graph.add("Reshape", [x, graph.constant([0, -1, C, V])])
        x = graph.add("Transpose", [x], perm=[1, 2, 0, 3])
    for block in encoder.blocks:
        x = _block(graph, block, x)
    D = len(encoder.blocks[-1].bias)
    if encoder.segments == 1:
        x = graph.add("ReduceMean", [x, graph.constant([2, 3])], keepdims=0)
    else:
        x = _segments(graph, x, encoder.segments)
    if persons == 1:
        return x
    x = graph.add("Reshape", [x, graph.constant([-1, persons, D * encoder.segments])])
    return graph.add("ReduceMean", [x, graph.constant([1])], keepdims=0)


def _block(graph: _Graph, block: FoldedBlock, x: str) -> str:
    """(B, C, T, V) -> (B, D, T', V). Joints first, then the 1x1 convolution: C is seldom more than D."""
    K, C, D = block.weight.shape
    parts = [graph.add("MatMul", [x, graph.constant(each)]) for each in block.adjacency]
    joined = graph.add("Concat", parts, axis=1) if K > 1 else parts[0]
    weight = block.weight.reshape(K * C, D).T[:, :, None, None]
    y = graph.add("Conv", [joined, graph.constant(weight)], kernel_shape=[1, 1])
    y = graph.add("Relu", [graph.add("Add", [y, graph.constant(block.base.T[:, None])])])
    taps, stride = len(block.conv), [block.stride, 1]
    pads = [taps // 2, 0, taps // 2, 0]
    inputs = [y, graph.constant(block.conv.transpose(2, 1, 0)[..., None]), graph.constant(block.bias)]
    y = graph.add("Conv", inputs, kernel_shape=[taps, 1], strides=stride, pads=pads)
    if block.shortcut is not None:
        weight = block.shortcut.T[:, :, None, None]
        x = graph.add("Conv", [x, graph.constant(weight)], kernel_shape=[1, 1], strides=stride)
    if block.residual:
        y = graph.add("Add", [y, x])
    return graph.add("Relu", [y])


def _segments(graph: _Graph, x: str, segments: int) -> str:
    """(B, D, T, V) -> (B, segments * D): the means over [s T / S rounded down, (s + 1) T / S rounded up)."""
    x = graph.add("ReduceMean", [x, graph.constant([3])], keepdims=0)
    frames = graph.add("Gather", [graph.add("Shape", [x]), graph.constant([2])])
    many = graph.constant([segments])
    parts = []
    for s in range(segments):
        first = graph.add("Div", [graph.add("Mul", [frames, graph.constant([s])]), many])
        last = graph.add("Mul", [frames, graph.constant([s + 1])])
        last = graph.add("Div", [graph.add("Add", [last, graph.constant([segments - 1])]), many])
        part = graph.add("Slice", [x, first, last, graph.constant([2])])
        parts.append(graph.add("ReduceMean", [part, graph.constant([2])], keepdims=0))
    return graph.add("Concat", parts, axis=1)
