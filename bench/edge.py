"""`python -m bench.edge`: one student in every runtime, one thread; writes bench/results/<device>-edge.*.

python -m bench.edge                 builds the engine into build/edge first
python -m bench.edge --rounds 200    more rounds of all runtimes, one after the other

ONNX Runtime and OpenVINO are measured where they are installed; the table says where they are not.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from edge_engine import Engine, build  # noqa: E402
from torch import nn  # noqa: E402

from asma.classifier import Classifier, count_parameters  # noqa: E402
from asma.config import DataConfig, EncoderConfig  # noqa: E402
from asma.edge_file import edge_bytes  # noqa: E402
from asma.export import PlainClassifier  # noqa: E402
from asma.folded import fold  # noqa: E402
from asma.models import Encoder  # noqa: E402
from asma.models.alignment import Alignment  # noqa: E402
from asma.onnx_file import onnx_bytes  # noqa: E402
from asma.student import NARROW, StudentConfig, student_sizes  # noqa: E402
from asma_kernels import Skeleton  # noqa: E402

from . import edge_live, edge_precision, machine  # noqa: E402

CLASSES = 60
DATA = DataConfig(frames=50, persons=2)
TEACHER = EncoderConfig(dropout=0.0)
STUDENT = "base"
"""Of the figures that are of one student; latencies are of `narrow`, too: the teacher's ten blocks, narrowed."""
NEAR = 1e-4
Work = Callable[[], Any]


def classifier(config: EncoderConfig, encoders: int) -> Classifier:
    """With statistics as of trained norms; NTU RGB+D's 25 joints and 60 classes."""
    torch.manual_seed(0)
    parts = [Encoder(config, Skeleton.builtin("ntu25")) for _ in range(encoders)]
    alignment = Alignment(parts[0].features) if encoders == 2 else None
    head = nn.Linear(alignment.features if alignment else parts[0].features, CLASSES)
    model = Classifier(parts, alignment, head, [f"A{k + 1:03}" for k in range(CLASSES)], DATA)
    for part in parts:
        part.calibrate(torch.randn(16, 3, DATA.frames, 25, DATA.persons))
    return model.eval()


def runtimes(model: Classifier, engine: Engine, x: torch.Tensor) -> tuple[dict[str, Work], dict[str, str]]:
    """Each runtime on a clip (1, C, T, V, M), and why others are not there."""
    array, missing = x.numpy(), {}
    plain = PlainClassifier(fold(model)).eval()
    compiled = torch.compile(plain, fullgraph=True)
    stream = engine.open(edge_bytes(model)).start()
    with torch.inference_mode():
        compiled(x)
    made: dict[str, Work] = {
        "ours": lambda: stream.predict_prepared(array[0])[None],
        "eager": lambda: model(x).numpy(),
        "eager, folded": lambda: plain(x).numpy(),
        "torch.compile, folded": lambda: compiled(x).numpy(),
    }
    absent = [name for name in ("onnx", "onnxruntime", "openvino") if importlib.util.find_spec(name) is None]
    for name in absent:
        missing[name] = "not installed"
    if "onnx" in absent:
        return made, missing
    content = onnx_bytes(model)
    if "onnxruntime" not in absent:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        made["ONNX Runtime"] = lambda: session.run(None, {"clips": array})[0]
    if "openvino" not in absent:
        import openvino

        core = openvino.Core()
        hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
        read = core.read_model(content)
        read.reshape({"clips": array.shape})
        request = core.compile_model(read, "CPU", hints).create_infer_request()
        made["OpenVINO"] = lambda: request.infer([array])[0]
    return made, missing


def check(made: dict[str, Work]) -> dict[str, float]:
    """The gate: nothing is timed unless all agree. The largest difference of each from PyTorch in eager mode."""
    expected = made["eager"]()
    found = {name: float(np.abs(work() - expected).max()) for name, work in made.items()}
    for name, difference in found.items():
        if not difference < NEAR:
            raise SystemExit(f"bench.edge: {name} must agree with eager to {NEAR:g}, it differs by {difference:g}")
    return found


def side_by_side(
    made: dict[str, Work], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Medians of seconds; a round is one call of each, so that all see the same machine."""
    times: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(rounds + 5):
        for name, work in made.items():
            start = clock()
            work()
            if turn >= 5:
                times[name].append(clock() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


PYTHON = """
import json, sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
clip = numpy.array(json.load(open(sys.argv[2])), numpy.float32)  # frames, persons, joints, coordinates
x = numpy.ascontiguousarray(clip[:50].transpose(3, 0, 2, 1)[None])
print(session.run(None, {"clips": x})[0].argmax())
"""


def start_up(model: Classifier, command: Path, folder: Path, rounds: int = 15) -> dict[str, float]:
    """Seconds from the start of a process to its end, after the first prediction; the files are in the page cache."""
    clip = np.random.default_rng(0).normal(size=(DATA.frames, DATA.persons, 25, 3)).round(4)
    (folder / "clip.json").write_text(json.dumps(clip.tolist()))
    (folder / "model.edge").write_bytes(edge_bytes(model))
    commands: dict[str, list[Any]] = {"asma-edge": [command, folder / "model.edge", folder / "clip.json"]}
    if not any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime")):
        (folder / "model.onnx").write_bytes(onnx_bytes(model))
        commands["Python + ONNX Runtime"] = [
            sys.executable, "-c", PYTHON, folder / "model.onnx", folder / "clip.json",
        ]  # fmt: skip
    return side_by_side(
        {
            name: lambda words=words: subprocess.run(words, check=True, capture_output=True)
            for name, words in commands.items()
        },
        rounds,
    )


def resident(command: Path, folder: Path) -> int:
    """Bytes of the process at their most, after a prediction of two persons."""
    frame = json.dumps(np.ones((DATA.persons, 25, 3)).tolist())
    process = subprocess.Popen(
        [command, folder / "model.edge"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin and process.stdout
    process.stdin.write(frame + "\n")
    process.stdin.flush()
    process.stdout.readline()
    status = Path(f"/proc/{process.pid}/status").read_text()
    process.stdin.close()
    process.wait()
    found = re.search(r"VmHWM:\s+(\d+)", status)
    if not found:
        raise SystemExit("bench.edge: /proc says nothing of resident memory")
    return int(found[1]) * 1024


def stripped(command: Path, folder: Path) -> int:
    subprocess.run(["strip", "-o", folder / "stripped", command], check=True)
    return (folder / "stripped").stat().st_size


def latencies(model: Classifier, engine: Engine, x: torch.Tensor, rounds: int, folder: Path) -> dict[str, Any]:
    """Of one student in every runtime and precision."""
    alone = x.clone()
    alone[..., 1] = 0
    made, missing = runtimes(model, engine, x)
    differences = check(made)
    latency = side_by_side(made, rounds)
    processor = side_by_side(made, rounds, time.process_time)
    narrow = edge_precision.measure(
        model, engine, x, made["eager"](), folder, lambda works: side_by_side(works, rounds, time.process_time)
    )
    single, _ = runtimes(model, engine, alone)
    check(single)
    latency["ours, one person"] = side_by_side({"ours": single["ours"]}, rounds)["ours"]
    return {
        "parameters": count_parameters(model),
        "channels": model.first_encoder.config.channels,
        "missing": missing,
        "differences": differences,
        "latency": latency,
        "processor_time": processor,
        "precision": narrow,
    }


def measure(rounds: int, folder: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    static = build(ROOT / "build" / "edge")
    shared = build(ROOT / "build" / "edge-shared", "-DBUILD_SHARED_LIBS=ON")
    engine = Engine(shared / "csrc/edge/libasma_edge.so")
    busy = machine.busy()
    teacher = classifier(TEACHER, 2)
    students = {}
    for name in (STUDENT, NARROW):
        _, sizes = student_sizes(teacher, StudentConfig(student=name))
        students[name] = classifier(replace(TEACHER, **sizes._asdict()), 1)
    student = students[STUDENT]
    x = torch.randn(1, 3, DATA.frames, 25, DATA.persons)
    with torch.inference_mode():
        found = {name: latencies(model, engine, x, rounds, folder) for name, model in students.items()}
        large, small = (engine.open(edge_bytes(model)).start() for model in (teacher, student))
        pair: dict[str, Work] = {
            "teacher": lambda: large.predict_prepared(x[0].numpy()),
            "student": lambda: small.predict_prepared(x[0].numpy()),
            "teacher, eager": lambda: teacher(x),
            "student, eager": lambda: student(x),
        }
        sizes = side_by_side(pair, max(rounds // 10, 5), time.process_time)
    command = static / "asma-edge"
    missing = found[STUDENT]["missing"]
    return {
        "busy_before": busy,
        "students": found,
        "teacher_parameters": count_parameters(teacher),
        "teacher_and_student": sizes,
        "live": edge_live.measure(engine, student, max(rounds // 5, 5)),
        "start_up": start_up(student, command, folder),
        "resident_bytes": resident(command, folder),
        "stripped_bytes": stripped(command, folder),
        "versions": {name: version(name) for name in ("torch", "onnxruntime", "openvino") if name not in missing},
    }


Row = tuple[str, str, str, bool]


def of_student(name: str, found: dict[str, Any]) -> tuple[list[str], list[Row]]:
    """Lines of Markdown on its latencies; and the figures: what, found, wanted, met."""
    latency, processor = found["latency"], found["processor_time"]
    channels = ", ".join(map(str, found["channels"]))
    lines = [
        "",
        f"## The student `{name}`: {found['parameters']:,} parameters, channels {channels}",
        "",
        "| runtime | ms | ours is faster by | ms of the processor | ours takes less by | difference from eager |",
        "|---|---|---|---|---|---|",
    ]
    for runtime, seconds in sorted(latency.items(), key=lambda item: item[1]):
        ratio = "" if runtime.startswith("ours") else f"{seconds / latency['ours']:.2f}x"
        cells = [runtime, f"{1e3 * seconds:.3f}", ratio]
        if runtime in processor:
            less = "" if runtime == "ours" else f"{processor[runtime] / processor['ours']:.2f}x"
            cells += [f"{1e3 * processor[runtime]:.3f}", less, f"{found['differences'][runtime]:.1e}"]
        lines.append(f"| {' | '.join([*cells, '', '', ''][:6])} |")
    best = min(seconds for runtime, seconds in processor.items() if runtime != "ours") / processor["ours"]
    far = found["differences"]["ours"]
    rows = [
        ("latency at float32 against the best of the others", f"{best:.2f}x", ">= 1.5x", best >= 1.5),
        *edge_precision.figures(found["precision"]),
        ("difference from PyTorch", f"{far:.1e}", "< 1e-4", far < NEAR),
    ]
    lines += edge_precision.table(found["precision"], processor["ours"])
    return lines, [(f"`{name}`: {what}", *rest) for what, *rest in rows]


def markdown(results: dict[str, Any]) -> str:
    found = results["found"]
    lines = [
        f"# The edge engine on {results['facts']['device']}",
        "",
        f"`{results['command']}`, {results['date']}. Batch 1, T = 50, 25 joints, two persons, 60 classes, one thread; "
        "medians, runtimes side by side. "
        f"Others kept the processors {100 * found['busy_before']:.0f} % busy, which counts in the time on the wall and "
        "not in that of the processor: the verdicts are by the latter, but for the start of processes. The figures "
        f"that name no student are of `{STUDENT}`.",
    ]
    rows: list[Row] = []
    for name, each in found["students"].items():
        tables, figures = of_student(name, each)
        lines += tables
        rows += figures
    start, pair = found["start_up"], found["teacher_and_student"]
    size, memory = found["stripped_bytes"], found["resident_bytes"]
    engine, eager = pair["teacher"] / pair["student"], pair["teacher, eager"] / pair["student, eager"]
    if "Python + ONNX Runtime" in start:
        ratio = start["Python + ONNX Runtime"] / start["asma-edge"]
        text = f"{1e3 * start['asma-edge']:.1f} ms against {1e3 * start['Python + ONNX Runtime']:.0f} ms: {ratio:.0f}x"
        rows.append(("process start to first prediction", text, ">= 20x", ratio >= 20))
    rows += [
        ("resident memory", f"{memory / 1e6:.1f} MB", "< 16 MB", memory < 16e6),
        ("stripped command", f"{size / 1e6:.2f} MB", "< 1 MB", size < 1e6),
        ("teacher to student, engine", f"{engine:.1f}x", ">= 10x", engine >= 10),
        ("teacher to student, eager", f"{eager:.1f}x", ">= 10x", eager >= 10),
        *edge_live.rows(found["live"]),
    ]
    lines += ["", "## Figures", "", "| figure | found | wanted | |", "|---|---|---|---|"]
    lines += [f"| {name} | {text} | {wanted} | {'met' if met else 'NOT met'} |" for name, text, wanted, met in rows]
    for name, why in found["students"][STUDENT]["missing"].items():
        lines += ["", f"{name}: {why}."]
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.edge", description="one student in every runtime")
    parser.add_argument("--rounds", type=int, default=300, help="calls of each runtime, default 300")
    parser.add_argument("--out", type=Path, help="results file, default bench/results/<device>-edge.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options.rounds, Path(folder))
    results = {
        "command": " ".join(["python -m bench.edge", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "facts": machine.facts(),
        "found": found,
    }
    out = options.out or Path(__file__).parent / "results" / f"{machine.device_name()}-edge.json"
    out.write_text(json.dumps(results, indent=1) + "\n")
    out.with_suffix(".md").write_text(markdown(results))
    print(markdown(results))


if __name__ == "__main__":
    main()
