"""`python -m bench.gpu` (`make gpu`): everything that only a machine with a GPU can show, within eight minutes.

Builds the CUDA half, runs the tests with a missing GPU as a failure, runs the small cases under compute-sanitizer, and
measures the ops. Each part runs in a process of its own, and what is there is written after each, so that a crash
leaves the other parts' results: bench/results/<device>.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import asma_kernels

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
LIMIT = 480.0
TAIL = 3000
"""Characters of a part's output that are kept."""
SANITIZED = ["tests/test_gpu.py", "-k", "agrees and float32-cuda"]


def run_part(command: list[str], limit: float, **environment: str) -> dict[str, Any]:
    """Run a command; whether it passed, its time, and the end of what it said."""
    begun = time.perf_counter()
    try:
        found = subprocess.run(
            command, cwd=ROOT, env=os.environ | environment, timeout=max(limit, 1), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        passed, said = found.returncode == 0, found.stdout
    except subprocess.TimeoutExpired as error:
        said = error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else str(error.stdout or "")
        passed, said = False, said + f"\nstopped after {limit:.0f} s"
    except OSError as error:
        passed, said = False, str(error)
    return {"passed": passed, "seconds": round(time.perf_counter() - begun, 1), "said": said[-TAIL:]}


def parts(out: Path) -> dict[str, Callable[[float], dict[str, Any]]]:
    """By name; each takes the seconds that are left."""
    python, pytest = sys.executable, [sys.executable, "-m", "pytest", "-q"]

    def sanitizer(tool: str) -> Callable[[float], dict[str, Any]]:
        def run(left: float) -> dict[str, Any]:
            program = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
            if program is None:
                return {"passed": False, "seconds": 0.0, "said": "compute-sanitizer was not found"}
            command = [program, "--tool", tool, "--error-exitcode", "9", *pytest, *SANITIZED]
            return run_part(command, min(left, 90), ASMA_GPU="required", PYTORCH_NO_CUDA_MEMORY_CACHING="1")

        return run

    return {
        "build": lambda left: run_part([python, "setup.py", "-q", "build_ext", "--inplace"], left, ASMA_CUDA="on"),
        "tests": lambda left: run_part([*pytest, "tests/test_gpu.py"], min(left, 150), ASMA_GPU="required"),
        "ops": lambda left: run_part([python, "-m", "bench.gpu_ops", str(part_file(out, "ops"))], min(left, 120)),
        "step": lambda left: run_part([python, "-m", "bench.gpu_step", str(part_file(out, "step"))], min(left, 120)),
        "memcheck": sanitizer("memcheck"),
        "racecheck": sanitizer("racecheck"),
    }


def part_file(out: Path, part: str) -> Path:
    """Where a part leaves what it measured."""
    return out.with_suffix(f".{part}.json")


def table(results: dict[str, Any]) -> str:
    lines = [
        f"# {results['facts']['device']}", "",
        f"`{results['command']}`, {results['date']}; torch {results['facts']['torch']}, "
        f"asma-kernels {results['facts']['asma_kernels']}, CUDA {results['facts']['cuda']}.",
        "", "| part | passed | seconds |", "|---|---|---|",
    ]  # fmt: skip
    for name, part in results["parts"].items():
        lines.append(f"| {name} | {'yes' if part['passed'] else 'NO'} | {part['seconds']} |")
    ops = results.get("ops")
    if ops:
        lines += [
            "",
            f"Measured: copy {ops['copy_bytes'] / 1e9:.0f} GB/s, an empty launch {ops['empty_launch'] * 1e6:.2f} us. "
            "Ours by graph replay over buffers larger than L2, microseconds; peers call after call.",
            "",
            "| work | N | backend | ours | of the copy's bandwidth | eager | compiled | vs eager | vs compiled |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for row in ops["rows"]:
            ours, eager, compiled = (row[name] * 1e6 for name in ("ours", "eager", "compiled"))
            lines.append(
                f"| {row['work']} | {row['N']} | {row['backend']} | {ours:.1f} "
                f"| {100 * row['share_of_copy']:.0f}% | {eager:.1f} | {compiled:.1f} "
                f"| {eager / ours:.1f}x | {compiled / ours:.1f}x |"
            )
    step = results.get("step")
    if step:
        lines += [
            "", f"Measured: a bfloat16 product {step['matrix_flops'] / 1e12:.0f} TFLOP/s.", "",
            "| work | ours | of the product's flops | eager | compiled | target |", "|---|---|---|---|---|---|",
        ]  # fmt: skip
        for row in step["rows"]:
            share = "" if row["flops"] is None else f"{100 * row['flops'] / row['ours'] / step['matrix_flops']:.0f}%"
            peer = ["" if row[way] is None else f"{row[way] / row['ours']:.1f}x" for way in ("eager", "compiled")]
            lines.append(
                f"| {row['work']} | {row['ours'] * 1e3:.2f} ms | {share} | {' | '.join(peer)} | {row['target']} |"
            )
    return "\n".join(lines) + "\n"


def write(results: dict[str, Any], out: Path) -> None:
    for part in ("ops", "step"):
        if part_file(out, part).exists():
            results[part] = json.loads(part_file(out, part).read_text())
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n")
    out.with_suffix(".md").write_text(table(results))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description="all that only a GPU can show")
    parser.add_argument("--out", type=Path, help="results file, default bench/results/<device>.json")
    parser.add_argument("--only", nargs="*", default=[], help="these parts only")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        cause = "this torch was built without CUDA" if torch.version.cuda is None else "torch sees no device"
        print(f"bench.gpu: this machine has no GPU ({cause}); nothing was run or written", file=sys.stderr)
        return 2
    name = re.sub(r"[^A-Za-z0-9]+", "-", torch.cuda.get_device_name(0)).strip("-").lower()
    out = options.out or RESULTS / f"{name}.json"
    major, minor = torch.cuda.get_device_capability(0)
    facts = {
        "capability": 10 * major + minor,
        "device": name, "torch": torch.__version__, "cuda": torch.version.cuda, "python": sys.version.split()[0],
        "asma_kernels": asma_kernels.__version__,
    }  # fmt: skip
    results: dict[str, Any] = {
        "command": " ".join(["python -m bench.gpu", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "facts": facts, "parts": {},
    }  # fmt: skip
    for part in ("ops", "step"):
        part_file(out, part).unlink(missing_ok=True)
    end = time.perf_counter() + LIMIT
    for part, run in parts(out).items():
        if options.only and part not in options.only:
            continue
        results["parts"][part] = run(end - time.perf_counter())
        write(results, out)
        print(part, "passed" if results["parts"][part]["passed"] else f"FAILED\n{results['parts'][part]['said']}")
    for part in ("ops", "step"):
        part_file(out, part).unlink(missing_ok=True)
    print(table(results))
    return 0 if all(part["passed"] for part in results["parts"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
