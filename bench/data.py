"""`python -m bench.data`: the speed of what reads and keeps data, into bench/results/<device>-data.json and .md.

python -m bench.data                       everything (idle machine: ten minutes and 6 GB of scratch)
python -m bench.data --only ntu            one part; the others stay in the file as they were measured
python -m bench.data --gigabytes 0.1       less generated text
python -m bench.data --clips 10000         fewer clips of the store
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from . import data_ntu, data_store, machine

RESULTS = Path(__file__).parent / "results"
PARTS = {"ntu": data_ntu, "store": data_store}
"""What is measured: modules with `measure(size, scratch)`, which gives JSON, and `markdown(results)`."""


def markdown(results: dict[str, Any]) -> str:
    facts = results["facts"]
    lines = [f"# {facts['device']}: data", ""]
    for name, part in PARTS.items():
        if name in results["parts"]:
            found = results["parts"][name]
            lines += [part.markdown(found), "", f"`{found['command']}`, {found['date']}; Python {facts['python']}.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.data", description="measure what reads and keeps data")
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--gigabytes", type=float, default=2, help="generated text, default 2")
    parser.add_argument("--clips", type=int, default=1_000_000, help="clips of the store, default a million")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="folder for both")
    parser.add_argument("--out", type=Path, help="results file, default bench/results/<device>-data.json")
    options = parser.parse_args()
    out = options.out or RESULTS / f"{machine.device_name()}-data.json"
    sizes = {"ntu": options.gigabytes, "store": options.clips}
    parts = json.loads(out.read_text())["parts"] if out.exists() else {}
    for name in [options.only] if options.only else PARTS:
        found = PARTS[name].measure(sizes[name], options.scratch)
        found["command"] = " ".join(["python -m bench.data", *sys.argv[1:]])
        found["date"] = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        parts[name] = found
        results = {"facts": machine.facts(), "parts": parts}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results, indent=1) + "\n")
        out.with_suffix(".md").write_text(markdown(results))
    print(markdown(results))
    print(f"written: {out}, {out.with_suffix('.md').name}")


if __name__ == "__main__":
    main()
