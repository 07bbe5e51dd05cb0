"""The benchmark of data on a little of it: its gate, its results, and that parts not measured stay."""

import json
import sys

import numpy as np
import pytest

pytest.importorskip("asma._host", reason="asma._host was not built: Python.h is needed for it")
from asma.data import builtin_clips, save_clips  # noqa: E402
from bench import data, data_ntu, data_store, ntu_plain  # noqa: E402


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


def test_the_store(tmp_path, monkeypatch, capsys):
    """Tasks in this process, but for one."""
    in_a_process = data_store.in_a_process
    monkeypatch.setattr(data_store, "in_a_process", lambda task, path: data_store.TASKS[task](path))
    monkeypatch.setattr(data_store, "NTU_CLIPS", 210)
    monkeypatch.setattr(data_store.machine, "busy", lambda: 0.25)
    run(monkeypatch, "--only", "store", "--clips", "600", "--scratch", tmp_path, "--out", tmp_path / "made.json")
    rows = json.loads((tmp_path / "made.json").read_text())["parts"]["store"]
    assert rows["clips"] == 600 and rows["bytes"]["store"] > 600 * 4 * 300
    assert all(rate > 0 for rate in rows["ntu"]["pipelines"].values()) and len(rows["ntu"]["pipelines"]) == 4
    assert sorted(file.name for file in tmp_path.iterdir()) == ["made.json", "made.md"]
    assert "25 % busy" in (tmp_path / "made.md").read_text()
    assert "| open, cold |" in (tmp_path / "made.md").read_text() and "600 clips of 4 to 12" in capsys.readouterr().out
    data_store.write_store(tmp_path / "store", data_store.many(20, 4, 12, 0))
    assert in_a_process("opened", tmp_path / "store").keys() == {"open", "first clip", "memory"}


def test_other_clips_are_not_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(data_store.machine, "busy", lambda: 0.0)
    monkeypatch.setattr(data_store, "write_npz", lambda path, *_: save_clips(path, builtin_clips(0, 3, 1, 1, 1)))
    with pytest.raises(SystemExit, match="the store and the npz must hold the same clips, and do not"):
        data_store.measure(3, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small(tmp_path):
    with pytest.raises(SystemExit, match=r"must have [\d,]+ bytes free, it has [\d,]+"):
        data_ntu.measure(1e9, tmp_path)
    with pytest.raises(SystemExit, match=r"must have [\d,]+ bytes free, it has [\d,]+"):
        data_store.measure(10**12, tmp_path)
