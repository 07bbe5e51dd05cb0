"""Conversions: any format to any other, by many processes, stopped at any moment, on a full disk."""

import json
import multiprocessing
import os
import random
import re
import shutil
import time
from pathlib import Path

import conversions
import numpy as np
import pytest
import stores
from ntu_text import pose, text
from stores import MadeSource, same_clip, same_set

from asma.cli import main
from asma.data import (
    ClipSet,
    Track,
    builtin_clips,
    load_clips,
    open_clips,
    open_store,
    parts,
    save_clips,
    store_writer,
    verify_store,
)
from asma.data.convert import convert_to_file, fingerprint
from asma.data.formats import clipset
from asma.data.source import Clip, LeftOut

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["asma.data.convert"])


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(store_writer, "SHARD_CLIPS", conversions.SHARD_CLIPS)


def contents(path):
    """All that is in a store but when and how it was made."""
    store = open_store(path)
    files = {file.name: file.read_bytes() for file in sorted(path.rglob("*.npy"))}
    return store.name.tolist(), [store.as_clip(i) for i in range(len(store))], files


def expected(source):
    items = [item for part in source.parts for item in source.read(part)]
    return [item for item in items if isinstance(item, Clip)], [item for item in items if isinstance(item, LeftOut)]


def left_out(path):
    return [LeftOut(**json.loads(line)) for line in (path / "left_out.jsonl").read_text().splitlines()]


class TestCommand:
    def test_there_and_back(self, tmp_path, capsys):
        clips = builtin_clips(classes=3, subjects=2, views=1, repeats=2)
        clips = ClipSet(
            **(vars(clips) | {"splits": {"a": clips.label == 0, "b": clips.label > 0}, "usual_split": "a/b"})
        )
        save_clips(tmp_path / "set.npz", clips)
        assert main(["data", "convert", str(tmp_path / "set.npz"), str(tmp_path / "store")]) == 0
        out = capsys.readouterr().out
        assert "clip set of 0.3 MB, format clipset" in out and "12 clips, " in out
        verify_store(tmp_path / "store")
        assert main(["data", "convert", str(tmp_path / "store"), str(tmp_path / "back.npz")]) == 0
        assert "store of 12 clips in 1 shard, format store" in capsys.readouterr().out
        back = load_clips(tmp_path / "back.npz")
        assert same_set(back, clips) and back.split("a/b")[0].name.tolist() == clips.split("a/b")[0].name.tolist()
        store = open_clips(tmp_path / "store")
        assert [part.name.tolist() for part in store.split("a/b")] == [part.name.tolist() for part in back.split("a/b")]
        assert sorted(os.listdir(tmp_path)) == ["back.json", "back.npz", "set.json", "set.npz", "store"]

    def test_half_precision_and_the_same_command_again(self, tmp_path, capsys):
        save_clips(tmp_path / "set.npz", builtin_clips(classes=2, subjects=2, views=1, repeats=1))
        command = ["data", "convert", str(tmp_path / "set.npz"), str(tmp_path / "store"), "--dtype", "float16"]
        assert main(command) == 0
        assert open_store(tmp_path / "store").dtype == "float16"
        before = contents(tmp_path / "store")[2]
        capsys.readouterr()
        assert main(command) == 0
        assert "made by the same command before, nothing to do" in capsys.readouterr().out
        assert main(command[:4]) == 2
        assert "is there already" in capsys.readouterr().err
        assert contents(tmp_path / "store")[2] == before
        assert main([*command[:4], "--overwrite"]) == 0
        assert open_store(tmp_path / "store").dtype == "float32"
        assert sorted(os.listdir(tmp_path)) == ["set.json", "set.npz", "store"]

    def test_clean_up_is_counted_and_said(self, tmp_path, capsys):
        """Steps apart from what was left out; a clip without a body is both. Said again when there is nothing to do."""
        pytest.importorskip("asma._host", reason="asma._host was not built: Python.h is needed for it")
        walker = [(1, pose(0, (0.02 * t, 0, 3))) for t in range(20)]
        chair = (2, pose(1) * [9, 0.1, 1])
        (tmp_path / "ntu").mkdir()
        for action, frames in enumerate(([[body] for body in walker], [[body, chair] for body in walker], [[], []])):
            (tmp_path / "ntu" / f"S001C001P001R001A00{action + 1}.skeleton").write_text(text(frames))
        (tmp_path / "ntu" / "S001C001P001R001A004.skeleton").write_text("none")
        command = ["data", "convert", str(tmp_path / "ntu"), str(tmp_path / "store")]
        for _ in range(2):
            assert main(command) == 0
            out = capsys.readouterr().out
            assert "2 clips, 40 frames" in out and re.search(r"left out: 2, first .*A003.skeleton: no body:", out), out
            assert re.search(r"cleaned up, .*\n +1  wide bodies\n +1  no body\nleft out", out), out
        counts = open_store(tmp_path / "store").provenance["counts"]
        assert counts["steps"] == {"wide bodies": 1, "no body": 1} and counts["left_out"] == 2
        assert len(left_out(tmp_path / "store")) == 3

    def test_options_of_readers(self, tmp_path, capsys):
        """An interval of PKU-MMD and names of classes; what the format has not is refused before anything is made."""
        save_clips(tmp_path / "set.npz", builtin_clips(classes=2, subjects=2, views=1, repeats=1))
        convert = ["data", "convert"]
        assert main([*convert, str(tmp_path / "set.npz"), str(tmp_path / "pku"), "--to", "pku"]) == 0
        for file in (tmp_path / "pku" / "label").iterdir():
            file.write_text("1,3,9,2\n")
        (tmp_path / "pku" / "asma.json").unlink()
        for interval, frames in (("start:end", 6), ("start-1:end", 7)):
            store = tmp_path / interval
            command = [*convert, str(tmp_path / "pku"), str(store), "--interval", interval]
            assert main(command) == 0
            assert set(open_store(store).lengths) == {frames} and open_store(store).provenance["reading"] == {
                "interval": interval
            }
            capsys.readouterr()
            assert main(command[:4]) == 2 and "is there already" in capsys.readouterr().err
        assert main([*convert, str(tmp_path / "set.npz"), str(tmp_path / "pstl"), "--to", "pstl"]) == 0
        for classes, refused in ((["sit", "wave"], 0), (["sit"], 2)):
            store = tmp_path / f"{refused}"
            assert main([*convert, str(tmp_path / "pstl"), str(store), "--classes", *classes]) == 0
            assert open_store(store).classes == tuple(classes)
            assert open_store(store).provenance["counts"]["left_out"] == refused
        before = sorted(os.listdir(tmp_path))
        for options, said in (
            (["pku", "--layout", "ntu25"], "layout is an option of pstl, pyskl, not of pku"),
            (["set.npz", "--bad"], "bad is an option of ntu, not of clipset"),
            (["pstl", "--interval", "start:end"], "interval is an option of pku, not of pstl"),
            (["pstl", "--layout", "coco17"], "layout 'coco17' has 17 joints, got 25"),
        ):
            assert main([*convert, str(tmp_path / options[0]), str(tmp_path / "out"), *options[1:]]) == 2
            err = capsys.readouterr().err
            assert said in err and err.count("\n") == 1, err
        assert sorted(os.listdir(tmp_path)) == before

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["gone.npz", "out"], "gone.npz is not there"),
            (["text.txt", "out"], "text.txt is of no format that is known: tried store, clipset"),
            (["empty", "out"], "empty is of no format that is known"),
            (["half.npz", "out"], "load_clips: .*half.npz' must be an .npz"),
            (["broken", "out"], "open_store: .*broken/store.json' must be JSON"),
            (["set.npz", "out.xyz"], "the ending .xyz says no format .*: name one by --to"),
            (["set.npz", "out", "--to", "word"], "to: format must be one of store, clipset"),
            (["set.npz", "out", "--format", "word"], "format: format must be one of store, clipset"),
            (["set.npz", "out.npz", "--dtype", "float16"], "dtype must be float32 where no store is written"),
            (["set.npz", "set.npz"], "source and out must differ"),
            (["set.npz", "empty"], "empty is there already and is no store"),
            (["set.npz", "text.npz"], "text.npz is there already: take another name"),
            (["set.npz", "text.npz", "--overwrite"], "only a store can be overwritten"),
            (["set.npz", "empty", "--overwrite"], "empty is there already and is no store"),
            (["set.npz", "nowhere/out"], "the folder must exist"),
        ],
    )
    def test_mistakes_are_one_sentence(self, tmp_path, capsys, monkeypatch, arguments, said):
        monkeypatch.chdir(tmp_path)
        save_clips("set.npz", builtin_clips(classes=2, subjects=2, views=1, repeats=1))
        save_clips("half.npz", builtin_clips(classes=2, subjects=2, views=1, repeats=1))
        os.truncate("half.npz", 5000)
        for name in ("text.txt", "text.npz"):
            Path(name).write_text("thesis")
        for name in ("empty", "broken"):
            Path(name).mkdir()
        Path("broken", "store.json").write_text("{")
        before = sorted(os.listdir())
        assert main(["data", "convert", *arguments]) == 2
        err = capsys.readouterr().err
        assert err.startswith("asma: ") and err.count("\n") == 1 and re.search(said, err), err
        assert sorted(os.listdir()) == before

    @pytest.mark.parametrize(("file", "count"), [("utd_mhad.npz", 861), ("nw_ucla.npz", 1484)])
    def test_real_data_there_and_back(self, tmp_path, file, count):
        if not (SHARED / file).is_file():
            pytest.skip(f"{file} is not in ../shared/data; its owners do not allow it in the project")
        assert main(["data", "convert", str(SHARED / file), str(tmp_path / "store")]) == 0
        verify_store(tmp_path / "store")
        assert main(["data", "convert", str(tmp_path / "store"), str(tmp_path / "back.npz")]) == 0
        clips, store, back = (
            load_clips(SHARED / file),
            open_clips(tmp_path / "store"),
            load_clips(tmp_path / "back.npz"),
        )
        assert len(store) == count and same_set(clips, back)
        assert np.array_equal(store.resample(32), clips.resample(32))


class TestParts:
    def test_many_processes_give_what_one_gives_in_order(self, tmp_path, monkeypatch, small_shards):
        """Also a part that cannot be read: it is left out by itself."""
        source = MadeSource(40, broken=9)
        monkeypatch.setattr(parts, "ALONE", 0)
        one, many = (conversions.convert(source, tmp_path / f"{jobs}", jobs) for jobs in (1, 2))
        assert (one.clips, one.frames, one.left_out) == (many.clips, many.frames, many.left_out)
        assert contents(tmp_path / "1")[2] == contents(tmp_path / "2")[2]
        good, bad = expected(MadeSource(40))
        good = [each for each in good if not 45 <= int(each.name[1:]) < 50]
        found = contents(tmp_path / "2")[1]
        assert len(found) == len(good) and all(map(same_clip, found, good))
        listed = left_out(tmp_path / "2")
        assert listed == left_out(tmp_path / "1") and len(listed) == one.left_out
        assert LeftOut("part9", "part9: line 7: the number of bodies must be in [0, 64], got -3") in listed
        assert [each for each in listed if each.source != "part9"] == [
            each for each in bad if each.source != "part9: clip 47"
        ]
        assert one.reasons["frames must be at least …, got …"] == len(listed) - 1
        assert "frames must be at least 1, got -3" in str(one)

    def test_other_processes_are_asked_and_short_sources_are_not_worth_it(self, tmp_path, monkeypatch):
        log = tmp_path / "log"
        log.mkdir()
        list(parts.read_parts(MadeSource(6, log), jobs=2))
        assert {file.name.split(".")[1] for file in log.iterdir()} == {str(os.getpid())}
        monkeypatch.setattr(parts, "ALONE", 0)
        list(parts.read_parts(MadeSource(12, log, seconds=0.05), jobs=2))
        assert len({file.name.split(".")[1] for file in log.iterdir()}) == 3

    def test_a_reader_that_is_killed_is_said(self, tmp_path, monkeypatch, small_shards):
        monkeypatch.setattr(parts, "ALONE", 0)
        with pytest.raises(OSError, match="a reading process was killed, .*: the same command goes on"):
            conversions.convert(MadeSource(30, deadly=25), tmp_path / "out", jobs=1 + 1)
        assert os.listdir(tmp_path) == ["out.partial"]

    def test_a_part_that_does_not_fit_into_memory_is_left_out(self, tmp_path):
        class Large(MadeSource):
            def read(self, part):
                if part == "part1":
                    raise MemoryError
                return super().read(part)

        report = conversions.convert(Large(3), tmp_path / "out")
        assert LeftOut("part1", "a part must fit into memory") in left_out(tmp_path / "out") and report.clips == 8


class TestStoppedAndGoneOnWith:
    def test_what_is_finished_is_not_read_again(self, tmp_path, small_shards, monkeypatch):
        log = tmp_path / "log"
        log.mkdir()
        conversions.convert(MadeSource(40), tmp_path / "whole")
        calls = []
        write_shard = store_writer.write_shard

        def stop(folder, number, *rest):
            if number == 4:
                raise KeyboardInterrupt
            calls.append(number)
            return write_shard(folder, number, *rest)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("asma.data.convert.write_shard", stop)
            conversions.convert(MadeSource(40), tmp_path / "out")
        assert calls == [0, 1, 2, 3] and not (tmp_path / "out").exists()
        report = conversions.convert(MadeSource(40, log), tmp_path / "out")
        read = sorted(int(file.name.split(".")[0][4:]) for file in log.iterdir())
        assert read == list(range(read[0], 40)) and read[0] >= 24
        assert contents(tmp_path / "out")[2] == contents(tmp_path / "whole")[2]
        assert left_out(tmp_path / "out") == left_out(tmp_path / "whole") and report.left_out == 18
        assert not (tmp_path / "out.partial").exists()

    def begun(self, tmp_path):
        """A folder with the beginning of a conversion of 40 parts."""
        process = FORKSERVER.Process(
            target=conversions.convert_with_small_shards, args=(MadeSource(40, seconds=0.02), tmp_path / "out")
        )
        process.start()
        while not (tmp_path / "out.partial" / "store" / "shard-00001").exists():
            assert process.exitcode is None
            time.sleep(0.005)
        return process

    def test_another_source_or_options_are_refused_and_say_what_to_do(self, tmp_path, small_shards):
        process = self.begun(tmp_path)
        with pytest.raises(FileExistsError, match="another process is at this conversion: let it finish"):
            conversions.convert(MadeSource(40, seconds=0.02), tmp_path / "out")
        process.kill()
        process.join()
        with pytest.raises(
            FileExistsError, match="holds the beginning of another conversion, with another parts .*delete"
        ):
            conversions.convert(MadeSource(41), tmp_path / "out")
        (tmp_path / "out.partial" / "plan.json").write_text("{")
        with pytest.raises(FileExistsError, match="with an unreadable plan: finish that one, or delete the folder"):
            conversions.convert(MadeSource(40), tmp_path / "out")
        shutil.rmtree(tmp_path / "out.partial")
        assert conversions.convert(MadeSource(41), tmp_path / "out").clips > 100

    def test_the_beginning_of_another_conversion_is_not_lost(self, tmp_path, small_shards):
        process = self.begun(tmp_path)
        process.kill()
        process.join()
        os.rename(tmp_path / "out.partial", tmp_path / "kept")
        conversions.convert(MadeSource(41), tmp_path / "out")
        os.rename(tmp_path / "kept", tmp_path / "out.partial")
        assert conversions.convert(MadeSource(41), tmp_path / "out").there_already
        assert (tmp_path / "out.partial" / "store" / "shard-00001").exists()
        # It is about the same source, so it may replace what is there when it is told to.
        report = conversions.convert(MadeSource(40, seconds=0.02), tmp_path / "out", overwrite=True)
        assert len(open_store(tmp_path / "out")) == report.clips == 182
        assert os.listdir(tmp_path) == ["out"]

    def test_a_link_to_nothing_in_the_source_does_not_matter(self, tmp_path):
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "link").symlink_to("nowhere")
        plan = fingerprint(tmp_path / "in", MadeSource(1), tmp_path / "out", {})
        assert plan == fingerprint(tmp_path / "in", MadeSource(1), tmp_path / "out", {})
        (tmp_path / "in" / "new").touch()
        assert plan != fingerprint(tmp_path / "in", MadeSource(1), tmp_path / "out", {})

    def test_a_shard_that_a_dying_disk_left_is_made_again(self, tmp_path, small_shards):
        process = self.begun(tmp_path)
        process.kill()
        process.join()
        shard = tmp_path / "out.partial" / "store" / "shard-00001" / "frames.npy"
        shard.write_bytes(shard.read_bytes()[:-5])
        conversions.convert(MadeSource(40, seconds=0.02), tmp_path / "out")
        verify_store(tmp_path / "out")
        conversions.convert(MadeSource(40), tmp_path / "whole")
        assert contents(tmp_path / "out")[2] == contents(tmp_path / "whole")[2]

    def test_a_whole_shard_without_its_name_is_made_again(self, tmp_path, small_shards, monkeypatch):
        """Killed after the last byte of a shard, before it is renamed."""
        rename = os.replace

        def stop(part, name):
            if Path(name).name == "shard-00003":
                raise KeyboardInterrupt
            rename(part, name)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(store_writer.os, "replace", stop)
            conversions.convert(MadeSource(40), tmp_path / "out")
        assert (tmp_path / "out.partial" / "store" / "shard-00003.tmp" / "store.json").is_file()
        conversions.convert(MadeSource(40), tmp_path / "out")
        conversions.convert(MadeSource(40), tmp_path / "whole")
        assert contents(tmp_path / "out")[2] == contents(tmp_path / "whole")[2]

    def test_killed_at_many_moments_there_is_no_store_or_a_whole_one(self, tmp_path, small_shards):
        source = MadeSource(40, seconds=0.004)
        begun = time.perf_counter()
        process = FORKSERVER.Process(target=conversions.convert_with_small_shards, args=(source, tmp_path / "whole"))
        process.start()
        process.join()
        seconds = time.perf_counter() - begun
        whole = contents(tmp_path / "whole")[2]
        draw, kills, attempts = random.Random(0), 0, range(6)
        for attempt in attempts:
            out = tmp_path / f"out{attempt}"
            for patience in range(1, 100):
                if out.exists():
                    break
                process = FORKSERVER.Process(target=conversions.convert_with_small_shards, args=(source, out))
                process.start()
                process.join(draw.uniform(0.15, 0.6) * seconds * patience**0.5)
                kills += process.exitcode is None
                process.kill()
                process.join()
                if out.exists():
                    verify_store(out)
                    assert contents(out)[2] == whole
            # In the end there is nothing to do but to take the rest away.
            assert conversions.convert(source, out).there_already
        assert kills >= 6
        assert sorted(os.listdir(tmp_path)) == sorted(["whole", *[f"out{attempt}" for attempt in attempts]])

    def test_killed_in_the_midst_of_many_processes_none_is_left(self, tmp_path):
        log = tmp_path / "log"
        log.mkdir()
        process = FORKSERVER.Process(
            target=conversions.convert_with_small_shards, args=(MadeSource(400, log, seconds=0.02), tmp_path / "out", 2)
        )
        process.start()
        while len(pids := {int(file.name.split(".")[1]) for file in log.iterdir()}) < 3:
            assert process.exitcode is None
            time.sleep(0.01)
        process.kill()
        process.join()
        until = time.monotonic() + 10
        while alive := [pid for pid in pids if runs(pid)]:
            assert time.monotonic() < until, alive
            time.sleep(0.02)
        assert not (tmp_path / "out").exists()

    def test_a_full_disk_leaves_no_store_and_the_same_command_goes_on_when_there_is_room(self, tmp_path, small_shards):
        source = MadeSource(40)
        heard, said = FORKSERVER.Pipe(False)
        for most in (50, 500, 4000):
            process = FORKSERVER.Process(
                target=conversions.convert_on_a_full_disk, args=(source, tmp_path / "out", most, said)
            )
            process.start()
            process.join()
            sentence = heard.recv()
            assert "File too large" in sentence and "goes on where this one stopped" in sentence, sentence
            assert "\n" not in sentence and str(tmp_path / "out.partial") in sentence
            assert os.listdir(tmp_path) == ["out.partial"]
            assert not list(tmp_path.rglob("*.tmp"))
        conversions.convert(source, tmp_path / "out")
        verify_store(tmp_path / "out")
        assert os.listdir(tmp_path) == ["out"]


def runs(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_when_everything_is_left_out_there_is_no_store(tmp_path):
    class Nothing(MadeSource):
        def read(self, part):
            yield LeftOut("file", "it is empty")

    class Empty(MadeSource):
        def read(self, part):
            return iter(())

    for source, said in ((Nothing(2), "2 were left out, first file: it is empty"), (Empty(2), "the source is empty")):
        with pytest.raises(ValueError, match=f"there must be at least one clip, got none: {said}"):
            conversions.convert(source, tmp_path / "out")
        with pytest.raises(ValueError, match=f"there must be at least one clip, got none: {said}"):
            convert_to_file(source, tmp_path / "out.npz", clipset.write, jobs=1)
    assert os.listdir(tmp_path) == []


def test_a_clip_that_the_store_refuses_is_left_out_and_counted(tmp_path):
    class Bad(MadeSource):
        def read(self, part):
            yield stores.clip(0)
            yield stores.clip(1, label=7)
            yield Clip("nan", 2, (Track(0, 0, np.full((2, 3, 3), np.nan, np.float32)),), source="file3")

    report = conversions.convert(Bad(1), tmp_path / "out")
    assert (report.clips, report.left_out) == (1, 2)
    assert [each.source for each in left_out(tmp_path / "out")] == ["file1", "file3"]
    provenance = open_store(tmp_path / "out").provenance
    assert provenance["dtype"] == "float32" and provenance["source"].endswith("conversions.py")
    assert provenance["counts"]["left_out"] == 2 and provenance["format"] == "made"
    assert "label must be in [-1, 1], got 7; clip 'c1'" in provenance["counts"]["first"]
