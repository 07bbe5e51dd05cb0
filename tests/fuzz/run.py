"""Builds and runs the fuzz target of the .skeleton parser, with address and undefined-behaviour sanitizers.

python tests/fuzz/run.py                        ten million executions, about ten minutes
python tests/fuzz/run.py --runs 1000000 --folder /somewhere
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLAGS = ["-std=c++20", "-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
LEVELS = {"generic": [], "avx2": ["-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2"]}
LONGEST = 4096
WORDS = [
    "25",
    "64",
    "-1",
    "nan",
    "inf",
    "1e309",
    "1e-999",
    "0.00000000001",
    "-0.0",
    "\\x0d\\x0a",
    "\\x0a",
    "\\xef\\xbb\\xbf",
]

JOINT = "{} {} {} 0 0 0 0 0 0 0 0 2"
BODY = "{} 0 1 1 1 1 0 0.02 0.05 2"


def seeds() -> dict[str, str]:
    """Small files of every kind: a mutation of one of these gets past the counts, one of nothing would not."""

    def body(id: int, joints: list[str]) -> list[str]:
        return [BODY.format(id), "25", *(joints * 25)[:25]]

    plain = [JOINT.format(0.2181153, -0.1725972, 3.785547), JOINT.format("0.001234567", "-9.12345678901234", "1.5")]
    hard = [
        JOINT.format("1.5e-05", "-0", "+12.25"),
        JOINT.format("nan", ".5", "123456789.123456789"),
        "1 2 3" + " 4" * 9,
    ]
    long = ["0." + "1" * 70 + " 5.5\t\t-6.25 " + "-1234.5678 " * 9 + " "]
    files = {
        "no_frame": ["0"],
        "empty_frames": ["3", "0", "0", "0"],
        "one_body": ["1", "1", *body(72057594037931101, plain)],
        "two_bodies": ["2", "2", *body(1, plain), *body(2, hard), "1", *body(2**64 - 1, hard)],
        "long_lines": ["1", "1", *body(7, long)],
        "shortest_bodies": ["1", "6", *["0 " * 9 + "0", "25", *["0 " * 11 + "0"] * 25] * 6],
    }
    texts = {name: "\n".join(lines) + "\n" for name, lines in files.items()}
    texts["windows"] = "\ufeff" + texts["one_body"].replace("\n", "\r\n") + "\r\n\r\n"
    return texts


def build(folder: Path, clang: str) -> Path:
    """The fuzz target; every instruction set's parser is in it."""
    host, objects = ROOT / "csrc/host", []
    architecture = subprocess.run([clang, "-dumpmachine"], capture_output=True, text=True, check=True).stdout
    for level, flags in LEVELS.items():
        if level == "generic" or architecture.startswith("x86_64"):
            objects.append(folder / f"{level}.o")
            command = [clang, *FLAGS, *flags, f"-DASMA_ISA={level}", "-c", host / "ntu_skeleton.cpp", "-o", objects[-1]]
            subprocess.run(command, check=True)
    target = folder / "ntu_skeleton"
    sources = [Path(__file__).with_name("ntu_skeleton.cpp"), host / "decimal.cpp"]
    subprocess.run([clang, *FLAGS, *sources, *objects, "-o", target], check=True)
    return target


def fuzz(target: Path, folder: Path, *limits: str) -> tuple[int, str]:
    """Runs it until a limit of libFuzzer's; the number of executions and all that it printed.

    Raises:
        subprocess.CalledProcessError: it found something.
    """
    corpus, dictionary = folder / "corpus", folder / "words"
    corpus.mkdir(exist_ok=True)
    for name, text in seeds().items():
        (corpus / name).write_bytes(text.encode())
    dictionary.write_text("".join(f'"{word}"\n' for word in WORDS))
    command = [target, corpus, f"-dict={dictionary}", f"-max_len={LONGEST}", f"-artifact_prefix={folder}/", *limits]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout)
    executions = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stdout)
    return int(executions[1]) if executions else 0, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(prog="python tests/fuzz/run.py", description="fuzz the .skeleton parser")
    parser.add_argument("--runs", type=int, default=10_000_000, help="executions, default ten million")
    parser.add_argument("--folder", type=Path, help="for the corpus and what is found; default: a temporary one")
    options = parser.parse_args()
    clang = shutil.which("clang++")
    if clang is None:
        parser.error("clang++ was not found: libFuzzer is a part of it")
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    os.nice(19)
    try:
        executions, printed = fuzz(build(folder, clang), folder, f"-runs={options.runs}", "-print_final_stats=1")
    except subprocess.CalledProcessError as error:
        print(error.output or "", file=sys.stderr)
        raise SystemExit(f"found something: {folder}") from None
    print(printed)
    print(f"{executions:,} executions, nothing found; corpus in {folder / 'corpus'}")


if __name__ == "__main__":
    main()
