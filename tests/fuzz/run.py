"""Builds and runs a fuzz target, with address and undefined-behaviour sanitizers.

python tests/fuzz/run.py                        the .skeleton parser: ten million executions, about ten minutes
python tests/fuzz/run.py --target edge          the edge engine: its model files and its streams, as long
python tests/fuzz/run.py --runs 1000000 --folder somewhere --pause-file somewhere/pause

It runs in rounds of half a minute and says after each how many executions there were. The folder keeps the corpus and
the count: the same command goes on where it was stopped. The count is of one program; another one begins at 0.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
FLAGS = ["-std=c++20", "-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
LEVELS = {"generic": [], "avx2": ["-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2"]}
TARGETS = ("ntu_skeleton", "edge")
ROUND = 30  # seconds


def compiled_per_level(source: Path, levels: list[str], folder: Path, clang: str) -> list[Path]:
    """Objects of a source that is compiled once per instruction set."""
    objects = []
    architecture = subprocess.run([clang, "-dumpmachine"], capture_output=True, text=True, check=True).stdout
    for level in levels:
        if level == "generic" or architecture.startswith("x86_64"):
            objects.append(folder / f"{source.stem}_{level}.o")
            flags = [*FLAGS, *LEVELS[level], f"-DASMA_ISA={level}"]
            subprocess.run([clang, *flags, "-c", source, "-o", objects[-1]], check=True)
    return objects


def linked(parts: list[Path], target: Path, clang: str, *flags: str) -> Path:
    subprocess.run([clang, *FLAGS, *flags, *parts, "-o", target], check=True)
    return target


def load(name: str) -> ModuleType:
    """A target's build, seeds, words and longest input: tests/fuzz/<name>.py."""
    return importlib.import_module(f"fuzz.{name}")


def fuzz(of: ModuleType, target: Path, folder: Path, *limits: str) -> tuple[int, str]:
    """Runs it until a limit of libFuzzer's; the number of executions and all that it printed.

    Raises:
        subprocess.CalledProcessError: it found something.
    """
    corpus, dictionary = folder / "corpus", folder / "words"
    corpus.mkdir(exist_ok=True)
    for name, content in of.seeds().items():
        (corpus / name).write_bytes(content)
    dictionary.write_text("".join(f'"{word}"\n' for word in of.WORDS))
    command = [target, corpus, f"-dict={dictionary}", f"-max_len={of.LONGEST}", f"-artifact_prefix={folder}/", *limits]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout)
    executions = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stdout)
    return int(executions[1]) if executions else 0, done.stdout


def rounds(of: ModuleType, target: Path, folder: Path, runs: int, pause: Path | None) -> int:
    """Rounds until there were `runs` executions of this program in this folder; none begins while the file is there.

    Raises:
        subprocess.CalledProcessError: it found something.
    """
    count, program = folder / "executions", hashlib.sha256(target.read_bytes()).hexdigest()
    done = 0
    if count.is_file():
        of_program, counted = count.read_text().split()
        done = int(counted) if of_program == program else 0
    while done < runs:
        if pause is not None and pause.exists():
            time.sleep(5)
            continue
        limits = (f"-runs={runs - done}", f"-max_total_time={ROUND}", "-print_final_stats=1")
        began = time.monotonic()
        executions, _ = fuzz(of, target, folder, *limits)
        done += executions
        count.write_text(f"{program} {done}\n")
        pace, kept = executions / (time.monotonic() - began), len(list((folder / "corpus").iterdir()))
        print(f"{done:,} of {runs:,} executions, {pace:,.0f} a second, {kept:,} inputs in the corpus", flush=True)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(prog="python tests/fuzz/run.py", description="run a fuzz target")
    parser.add_argument("--target", choices=TARGETS, default=TARGETS[0], help="default ntu_skeleton")
    parser.add_argument("--runs", type=int, default=10_000_000, help="executions, default ten million")
    parser.add_argument("--folder", type=Path, help="for the corpus and what is found; default: a temporary one")
    parser.add_argument("--pause-file", type=Path, help="no round begins while this file is there")
    options = parser.parse_args()
    clang = shutil.which("clang++")
    if clang is None:
        parser.error("clang++ was not found: libFuzzer is a part of it")
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    os.nice(19)
    try:
        of = load(options.target)
        executions = rounds(of, of.build(folder, clang), folder, options.runs, options.pause_file)
    except subprocess.CalledProcessError as error:
        print(error.output or "", file=sys.stderr)
        raise SystemExit(f"found something: {folder}") from None
    print(f"{executions:,} executions, nothing found; corpus in {folder / 'corpus'}")


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "src"), str(ROOT / "tests")]
    main()
