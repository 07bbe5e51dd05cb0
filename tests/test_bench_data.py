"""The benchmark of data on a little of it: its gate, its results, and that parts not measured stay."""

import json
import sys

import numpy as np
import pytest

pytest.importorskip("asma._host", reason="asma._host was not built: Python.h is needed for it")
from bench import data, data_ntu, ntu_plain  # noqa: E402


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["bench.data", *map(str, arguments)])
    data.main()


def test_what_it_writes(tmp_path, monkeypatch, capsys):
    out = tmp_path / "made.json"
    out.write_text(json.dumps({"parts": {"other": {"kept": True}}}))
    monkeypatch.setattr(data_ntu, "DIFFERENT", 8)
    monkeypatch.setattr(data_ntu, "PLAIN_BYTES", 4e5)
    (tmp_path / "scratch").mkdir()
    run(monkeypatch, "--only", "ntu", "--gigabytes", "0.003", "--scratch", tmp_path / "scratch", "--out", out)
    results = json.loads(out.read_text())
    assert results["parts"]["other"] == {"kept": True}
    assert results["parts"]["ntu"]["bytes"] >= 3e6
    assert all(speed > 0 for speed in results["parts"]["ntu"]["bytes_per_second"].values())
    table = (tmp_path / "made.md").read_text()
    assert table in capsys.readouterr().out
    assert all(f"| Python, {name} |" in table for name in ntu_plain.READERS)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_wrong_numbers_are_not_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(data_ntu, "DIFFERENT", 2)
    monkeypatch.setattr(data_ntu, "parse", lambda files, threads: [(1, None, None, np.zeros((1, 25, 3)))] * len(files))
    with pytest.raises(SystemExit, match="the parser must agree with 'every number' on S100C001P001R001A001.skeleton"):
        data_ntu.measure(0.001, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small(tmp_path):
    with pytest.raises(SystemExit, match=r"must have [\d,]+ bytes free, it has [\d,]+"):
        data_ntu.measure(1e9, tmp_path)
