"""`python -m bench.run`: measure everything, write bench/results/<device>.json, .md and .png, print the table.

python -m bench.run                      one and two threads (idle machine: about ten minutes)
python -m bench.run --threads 1 --only graph_conv
python -m bench.run --compare OLD.json   medians beside an earlier file of the same device
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import asma.machine

from . import machine, table

RESULTS = Path(__file__).parent / "results"


def measure(threads: str, only: str) -> list[dict[str, Any]]:
    """One row for each work, provider and number of threads."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "benchmark.json"
        command = [
            sys.executable, "-m", "pytest", str(Path(__file__).parent / "test_speed.py"), "-p", "no:cacheprovider",
            "--import-mode=importlib", "-q", "--benchmark-disable-gc", "--benchmark-warmup=on",
            "--benchmark-warmup-iterations=3", "--benchmark-min-rounds=9", "--benchmark-max-time=1",
            f"--benchmark-json={report}", "--benchmark-columns=median", "-rs",
        ]  # fmt: skip
        environment = os.environ | {"ASMA_BENCH_THREADS": threads, "ASMA_BENCH_ONLY": only}
        subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parent.parent)
        rows = []
        for entry in json.loads(report.read_text())["benchmarks"]:
            stats = entry["stats"]
            seconds = {name: stats[name] for name in ("median", "min", "q1", "q3", "rounds")}
            rows.append(entry["extra_info"] | seconds)
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="measure every op against its peers")
    parser.add_argument("--threads", default="1 2", help='numbers of threads, default "1 2"')
    parser.add_argument("--only", default="", help="only work whose name holds this text")
    parser.add_argument("--compare", type=Path, help="an earlier results file of the same device")
    parser.add_argument("--out", type=Path, help="results file, default bench/results/<device>.json")
    options = parser.parse_args()
    earlier = None
    if options.compare:
        if not options.compare.exists():
            parser.error(f"--compare: {options.compare} does not exist")
        earlier = json.loads(options.compare.read_text())
        if earlier["facts"]["device"] != machine.device_name():
            parser.error(
                f"--compare: {options.compare} is of {earlier['facts']['device']}, this is {machine.device_name()}"
            )
    limits = {}
    for count in options.threads.split():
        torch.set_num_threads(int(count))
        limits[count] = asma.machine.limits()._asdict()
    results = {
        "command": " ".join(["python -m bench.run", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "facts": machine.facts(),
        "limits": limits,
        "rows": measure(options.threads, options.only),
    }
    out = options.out or RESULTS / f"{machine.device_name()}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n")
    text = table.markdown(results, earlier)
    out.with_suffix(".md").write_text(text)
    table.chart(results, out.with_suffix(".png"))
    print(text)
    print(f"written: {out}, {out.with_suffix('.md').name}, {out.with_suffix('.png').name}")


if __name__ == "__main__":
    main()
