"""The fuzz target of the .skeleton parser: its build and its seeds."""

from __future__ import annotations

from pathlib import Path

from fuzz.run import ROOT, compiled_per_level, linked

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


def seeds() -> dict[str, bytes]:
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
    return {name: text.encode() for name, text in texts.items()}


def build(folder: Path, clang: str) -> Path:
    """The fuzz target; every instruction set's parser is in it."""
    host = ROOT / "csrc/host"
    objects = compiled_per_level(host / "ntu_skeleton.cpp", ["generic", "avx2"], folder, clang)
    return linked([Path(__file__).with_suffix(".cpp"), host / "decimal.cpp", *objects], folder / "ntu_skeleton", clang)
