"""The registry of formats, and those of our own: the clip set and the store."""

import os

import numpy as np
import pytest
import stores
from stores import MadeSource, same_clip, same_set, write

from asma.data import Header, builtin_clips, load_clips, open_store, save_clips
from asma.data.convert import convert_to_file
from asma.data.formats import clipset
from asma.data.formats import store as store_format
from asma.data.formats.registry import FORMATS, find, open_source, writer


class TestRegistry:
    def test_every_format_keeps_the_contract(self, tmp_path):
        """Whatever a path is: a phrase or None, without an exception."""
        for name in FORMATS:
            module = __import__(f"asma.data.formats.{name}", fromlist=["recognise"])
            for path in ("/nowhere", __file__, str(tmp_path), "/dev/null", "\0"):
                assert module.recognise(path) is None, (name, path)

    def test_several_matches_ask_for_one(self, tmp_path, monkeypatch):
        save_clips(tmp_path / "set.npz", builtin_clips(classes=2, subjects=2, views=1, repeats=1))
        monkeypatch.setattr(store_format, "recognise", lambda path: "anything")
        with pytest.raises(
            ValueError, match=r"could be store \(anything\) or clipset \(clip set of .*\): say which by --format"
        ):
            find(tmp_path / "set.npz")
        assert open_source(tmp_path / "set.npz", "clipset").format == "clipset"

    def test_a_format_that_is_not_written(self, monkeypatch):
        monkeypatch.delattr(clipset, "write")
        with pytest.raises(ValueError, match="format clipset is read only"):
            writer("out.npz")


class TestClipSet:
    def test_what_does_not_fit_is_refused_by_name(self, tmp_path):
        two = [stores.clip(0), stores.clip(1, 4, [(0, 0, 4), (1, 0, 2)])]
        cases = [
            (two, stores.HEADER, "a clip must have at most one person, 'c1' has a second one: take a store"),
            ([stores.clip(0, label=-1)], stores.HEADER, r"label must be in \[0, 2\), got -1 at clip 'c0'"),
            ([stores.clip(0)], Header("t", stores.CHAIN, "xys", ("a",)), "channels must be xyz, got xys"),
            ([], stores.HEADER, "there must be at least one clip"),
        ]
        for clips, header, said in cases:
            with pytest.raises(ValueError, match=said):
                clipset.write(clips, header, tmp_path / "out.npz")
        assert os.listdir(tmp_path) == []

    def test_from_memory_to_a_store_and_back(self, tmp_path):
        clips = builtin_clips(classes=2, subjects=2, views=1, repeats=1)
        path = write(tmp_path / "s", clipset.clips_of(clips), clipset.header_of(clips))
        store = open_store(path)
        back = clipset.clip_set_of((store.as_clip(i) for i in range(len(store))), store.header)
        assert same_set(back, clips)

    def test_absent_frames_become_zeros(self, tmp_path):
        path = write(tmp_path / "s", [stores.clip(0, 6, [(0, 1, 2), (0, 4, 1)]), stores.clip(2, 3, [])])
        clipset.write(open_source(path).read("clips 0 to 1"), stores.HEADER, tmp_path / "out.npz")
        clips, store = load_clips(tmp_path / "out.npz"), open_store(path)
        assert np.array_equal(clips.clip(0), store.clip(0)[0]) and not clips.clip(1).any()
        assert (clips.clip(0) != 0).any((1, 2)).tolist() == [False, True, True, False, True, False]

    def test_it_is_written_by_convert_all_or_nothing(self, tmp_path, monkeypatch):
        def full(*arguments, **more):
            raise OSError(28, "No space left on device")

        report = convert_to_file(MadeSource(4), tmp_path / "out.npz", clipset.write, jobs=1)
        assert report.clips == len(load_clips(tmp_path / "out.npz")) == 18 and report.left_out == 2
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="full.npz: No space left on device"):
            convert_to_file(MadeSource(4), tmp_path / "full.npz", clipset.write, jobs=1)
        assert sorted(os.listdir(tmp_path)) == ["out.json", "out.npz"]


def test_reading_a_store_part_by_part(tmp_path, monkeypatch):
    monkeypatch.setattr(store_format, "PART", 4)
    made = [stores.clip(i) for i in range(10)]
    source = open_source(write(tmp_path / "s", made))
    assert source.parts == ("clips 0 to 3", "clips 4 to 7", "clips 8 to 9")
    found = [clip for part in source.parts for clip in source.read(part)]
    assert len(found) == 10 and all(map(same_clip, found, made))
    assert find(tmp_path / "s").phrase == "store of 10 clips in 1 shard"
