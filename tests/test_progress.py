"""What a run says while it trains: a bar on a terminal, nothing elsewhere, and the same in metrics.jsonl."""

import io
import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from training_runs import KINDS, train

from asma import loop
from asma.data import feed
from asma.extras import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_said_where_nobody_looks(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(kind, tmp_path / "run")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", KINDS)
def test_a_terminal_shows_step_time_left_speed_wait_and_memory(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    train(kind, tmp_path / "run")
    last = terminal.getvalue().split("\r")[-1]
    for said in ("run: 100%", "12/12", "<00:00", "loss=", "clips_per_second=", "data_wait=", "memory=", " GB"):
        assert said in last


def test_the_rest_of_a_work_counts_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert list(Progress(range(7, 9), "rest")) == [7, 8]
    assert "7/9" in terminal.getvalue() and "9/9" in terminal.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_the_share_of_the_time_that_waits_for_clips(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of which every look takes a second: one before and after the log, two for each batch."""
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(ticks))
    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(feed, "time", clock)
    train(kind, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["data_wait"] for line in lines] == [2 / 5] * 6
    assert [line["seconds"] for line in lines] == [5, 10, 15, 20, 25, 30]
    assert all(line["memory_mb"] > 10 for line in lines)
