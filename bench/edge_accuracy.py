"""`python -m bench.edge_accuracy RUN...`: what bfloat16 and int8 cost trained students, on their own test clips.

Each run is the folder of a student or a teacher, whose clips are where its config says; int8 is calibrated by its
training clips, as `asma export` does.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests")]

import numpy as np  # noqa: E402
from edge_engine import Engine, build  # noqa: E402

from asma.classifier import load_classifier  # noqa: E402
from asma.edge_file import edge_bytes  # noqa: E402
from asma.export import clips_to_calibrate  # noqa: E402
from asma.precision import PRECISIONS  # noqa: E402
from asma.prepare import open_split  # noqa: E402


def rows(engine: Engine, run: Path) -> list[str]:
    """Lines of Markdown: accuracy, answers that are float32's, differences of logits, bytes of the file."""
    model, _ = load_classifier(run)
    split, clips = open_split(model.data, model.skeleton), clips_to_calibrate(model)
    x, label = split.test_x.numpy(), np.asarray(split.test.label)
    lines, float32 = [], np.zeros(0)
    for precision in PRECISIONS:
        content = edge_bytes(model, precision, clips)
        stream = engine.open(content).start()
        logits = np.array([stream.predict_prepared(clip) for clip in x])
        float32 = logits if precision == "float32" else float32
        answers = logits.argmax(1)
        cells = [
            *(str(run), precision, f"{100 * (answers == label).mean():.2f}"),
            f"{(answers != float32.argmax(1)).sum()} of {len(x)}",
            *(f"{difference:.3f}" for difference in (np.abs(logits - float32).max(), np.abs(logits - float32).mean())),
            f"{len(content):,}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.edge_accuracy", description="what a precision costs")
    parser.add_argument("runs", type=Path, nargs="+", help="folders of students or teachers")
    options = parser.parse_args()
    shared = build(ROOT / "build" / "edge-shared", "-DBUILD_SHARED_LIBS=ON")
    engine = Engine(shared / "csrc/edge/libasma_edge.so")
    print("| run | precision | top-1 | other answers | largest difference of a logit | mean | bytes |")
    print("|---|---|---|---|---|---|---|")
    for run in options.runs:
        print("\n".join(rows(engine, run)), flush=True)


if __name__ == "__main__":
    main()
