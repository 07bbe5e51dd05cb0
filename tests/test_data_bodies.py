"""The clean-up of bodies: each step by itself, all of them together, and what it tells of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asma.data.bodies import STEPS, CleanSource, CleanUp, clean_up, count_steps
from asma.data.source import Clip, Header, LeftOut, Track
from asma_kernels import Skeleton

OFF = CleanUp.off()
STANDING = np.stack([np.linspace(-0.1, 0.1, 5), np.linspace(0, 1.7, 5), np.full(5, 3.0)], 1)
LYING = STANDING[:, [1, 0, 2]]


def body(frames, pose=STANDING, at=0.0, step=0.0):
    """(F, 5, 3): a pose that goes to the right."""
    way = at + step * np.arange(frames)
    return (pose + way[:, None, None] * [1, 0, 0]).astype(np.float32)


def clip_of(*tracks, frames=30, **fields):
    return Clip("clip", frames, tuple(Track(*track) for track in tracks), source="folder/clip.txt", **fields)


def spans(clip):
    return [(track.person, track.start, len(track.data)) for track in clip.tracks]


def steps(cleaned):
    return count_steps(cleaned.left_out)


def test_a_clean_clip_is_not_touched():
    clip = clip_of((0, 0, body(30)), label=3, subject=2, view=1, splits=("train",))
    cleaned = clean_up(clip)
    assert cleaned.left_out == ()
    assert vars(cleaned.clip) | {"tracks": ()} == vars(clip) | {"tracks": ()}
    assert spans(cleaned.clip) == [(0, 0, 30)]
    assert np.array_equal(cleaned.clip.tracks[0].data, clip.tracks[0].data)


@pytest.mark.parametrize(("frames", "kept"), [(11, False), (12, True)])
def test_short_bodies_are_noise_where_there_is_a_longer_one(frames, kept):
    clip = clip_of((0, 0, body(frames, at=2)), (1, 0, body(30, step=0.1)))
    cleaned = clean_up(clip)
    assert len(cleaned.clip.tracks) == 1 + kept
    assert steps(cleaned) == ({} if kept else {"short bodies": 1})
    assert len(clean_up(clip, CleanUp(short=0)).clip.tracks) == 2
    alone = clean_up(clip_of((0, 3, body(frames))), CleanUp(drop_empty=False))
    assert spans(alone.clip) == [(0, 3, frames)] and not alone.left_out
    all_short = clip_of((0, 0, body(5, at=2)), (1, 0, body(11)), frames=11)
    assert {track.person for track in clean_up(all_short).clip.tracks} == {0, 1}


def test_wide_bodies_are_noise_where_there_is_another():
    table = body(30, LYING, at=2)
    cleaned = clean_up(clip_of((0, 0, table), (1, 0, body(30))))
    assert np.array_equal(cleaned.clip.tracks[0].data, body(30)) and len(cleaned.clip.tracks) == 1
    assert cleaned.left_out == (
        LeftOut("folder/clip.txt", "wide bodies: body 0 is wider than 0.8 of its height in 30 of 30 frames"),
    )
    assert len(clean_up(clip_of((0, 0, table), (1, 0, body(30))), CleanUp(wide=0)).clip.tracks) == 2
    assert len(clean_up(clip_of((0, 0, table))).clip.tracks) == 1
    assert len(clean_up(clip_of((0, 0, table), (1, 0, table + 9))).clip.tracks) == 1


@pytest.mark.parametrize(("wide_frames", "kept"), [(20, 2), (21, 1)])
def test_a_person_may_lie_for_a_while(wide_frames, kept):
    """69.754 % of the frames, as CTR-GCN has it: 20.9 of 30."""
    falls = np.concatenate([body(30 - wide_frames), body(wide_frames, LYING)])
    cleaned = clean_up(clip_of((0, 0, falls), (1, 0, body(30, at=5))), CleanUp(join_bodies=False))
    assert len(cleaned.clip.tracks) == kept


def test_wide_frames_do_not_count_as_motion():
    """A body that is a table in some frames moves as much as it does in the others."""
    glitches = body(30)
    glitches[5:15] = LYING * 3
    walker = body(30, at=3, step=0.02)
    cleaned = clean_up(clip_of((0, 0, glitches), (1, 0, walker)), CleanUp(persons=1))
    assert np.array_equal(cleaned.clip.tracks[0].data, walker)
    cleaned = clean_up(clip_of((0, 0, glitches), (1, 0, walker)), CleanUp(persons=1, wide=0))
    assert np.array_equal(cleaned.clip.tracks[0].data, glitches)


def test_the_persons_with_the_most_motion_come_first():
    bodies = [body(30, at=3 * i, step=step) for i, step in enumerate((0.02, 0.3, 0.0, 0.1))]
    clip = clip_of(*((i, 0, data) for i, data in enumerate(bodies)))
    cleaned = clean_up(clip)
    assert [np.array_equal(track.data, bodies[i]) for track, i in zip(cleaned.clip.tracks, (1, 3), strict=True)] == [
        True
    ] * 2
    assert steps(cleaned) == {"further bodies": 2}
    assert "further bodies: body 2 moves less than the 2 that are kept" in [entry.reason for entry in cleaned.left_out]
    for persons in (1, 3, 4, 9):
        assert len(clean_up(clip, CleanUp(persons=persons)).clip.tracks) == min(persons, 4)
    everybody = clean_up(clip, CleanUp(persons=0)).clip
    assert [np.array_equal(track.data, data) for track, data in zip(everybody.tracks, bodies, strict=True)] == [
        True
    ] * 4


def test_what_motion_is():
    """A chair that trembles has more energy than a walker, and less variance."""
    rng = np.random.default_rng(0)
    chair = body(60, at=3) + rng.normal(0, 0.1, (60, 1, 1)).astype(np.float32)
    walker = body(60, step=0.05)
    clip = clip_of((0, 0, chair), (1, 0, walker), frames=60)
    for motion, first in (("variance", walker), ("energy", chair)):
        assert np.array_equal(clean_up(clip, CleanUp(persons=1, motion=motion)).clip.tracks[0].data, first)


def test_energy_does_not_count_the_way_of_who_was_away():
    """Somebody leaves at one side and comes back at the other."""
    away = [(0, 0, body(12)), (0, 18, body(12, at=50))]
    clip = clip_of(*away, (1, 0, body(30, at=9, step=0.01)))
    first = clean_up(clip, CleanUp(persons=1, motion="energy", fill_persons=False)).clip
    assert len(first.tracks) == 1 and len(first.tracks[0].data) == 30


def test_a_number_that_changes_in_mid_clip():
    whole = body(30, step=0.05)
    clip = clip_of((4, 0, whole[:14]), (7, 14, whole[14:20]), (9, 21, whole[21:]), frames=30)
    cleaned = clean_up(clip, CleanUp(fill_persons=False))
    assert steps(cleaned) == {"joined bodies": 2, "empty frames": 1}
    assert cleaned.left_out[0].reason == "joined bodies: body 7 goes on where body 4 ended, at frame 14"
    assert spans(cleaned.clip) == [(0, 0, 29)]
    assert np.array_equal(cleaned.clip.tracks[0].data, np.delete(whole, 20, 0))
    apart = clean_up(clip, CleanUp(join_bodies=False, fill_persons=False, short=0, persons=0))
    assert {track.person for track in apart.clip.tracks} == {4, 7, 9}


@pytest.mark.parametrize(
    ("gap", "way", "joined"), [(1, 0.4, True), (1, 0.5, False), (5, 0.1, True), (6, 0.1, False), (0, 0.0, False)]
)
def test_only_a_body_that_begins_close_by_goes_on(gap, way, joined):
    """Within 5 frames, and a quarter of the height of 1.7 m."""
    clip = clip_of((0, 0, body(12)), (1, 11 + gap, body(12, at=way)))
    cleaned = clean_up(clip, CleanUp(fill_persons=False))
    assert ("joined bodies" in steps(cleaned)) == joined
    assert len({track.person for track in cleaned.clip.tracks}) == 2 - joined


def test_the_nearest_body_goes_on():
    """Two persons change their numbers in the same frame."""
    clip = clip_of((0, 0, body(15)), (1, 0, body(15, at=0.3)), (2, 15, body(15, at=0.3)), (3, 15, body(15)))
    cleaned = clean_up(clip)
    found = sorted(track.data[0, 0, 0] for track in cleaned.clip.tracks)
    assert all(np.ptp(track.data[:, 0, 0]) == 0 and len(track.data) == 30 for track in cleaned.clip.tracks)
    assert np.allclose(found, [-0.1, 0.2])


def test_a_further_body_fills_the_frames_in_which_a_person_is_away():
    tracks = (0, 0, body(13, step=0.3)), (1, 0, body(30, at=9, step=0.2)), (2, 13, body(17, at=-9, step=0.01))
    filled = clean_up(clip_of(*tracks))
    assert spans(filled.clip) == [(0, 0, 30), (1, 0, 30)] and not filled.left_out
    unfilled = clean_up(clip_of(*tracks), CleanUp(fill_persons=False))
    assert steps(unfilled) == {"further bodies": 1}


def test_empty_frames():
    clip = clip_of((0, 3, body(20, step=0.1)), (1, 5, body(12, at=9)), frames=40)
    cleaned = clean_up(clip)
    assert spans(cleaned.clip) == [(0, 0, 20), (1, 2, 12)] and cleaned.clip.frames == 20
    assert steps(cleaned) == {"empty frames": 1}
    assert cleaned.left_out[-1].reason == "empty frames: nobody is in 20 of 40 frames"
    kept = clean_up(clip, CleanUp(drop_empty=False))
    assert spans(kept.clip) == [(0, 3, 20), (1, 5, 12)] and kept.clip.frames == 40 and not kept.left_out


def test_frames_that_only_noise_was_in_are_empty():
    clip = clip_of((0, 0, body(5, at=9)), (1, 10, body(20)))
    assert clean_up(clip).clip.frames == 20


def test_clips_without_a_body():
    cleaned = clean_up(clip_of())
    assert cleaned.clip is None and steps(cleaned) == {"no body": 1}
    assert vars(clean_up(clip_of(), CleanUp(drop_empty=False)).clip) == vars(clip_of())


def test_frames_with_nan_are_dropped_whole():
    """As CTR-GCN's remove_nan_frames does: the other person's frame too."""
    broken = body(30, step=0.1)
    broken[[4, 9], 2, 1] = np.nan
    cleaned = clean_up(clip_of((0, 0, broken), (1, 0, body(30, at=9))))
    assert cleaned.clip.frames == 28
    assert steps(cleaned) == {"frames with NaN": 1}
    assert cleaned.left_out[0].reason == "frames with NaN: 2 of 30 frames, the first is 4"
    assert np.array_equal(cleaned.clip.tracks[0].data, np.delete(broken, [4, 9], 0))
    assert np.array_equal(cleaned.clip.tracks[1].data, body(28, at=9))


def test_nan_of_a_body_that_is_noise_costs_no_frame():
    noise = body(8, at=9)
    noise[:2] = np.nan
    cleaned = clean_up(clip_of((0, 0, noise), (1, 0, body(30))))
    assert cleaned.clip.frames == 30 and steps(cleaned) == {"short bodies": 1}


def test_nan_does_not_hide_who_moves():
    broken = body(30, step=0.1)
    broken[3] = np.nan
    for motion in ("variance", "energy"):
        cleaned = clean_up(clip_of((0, 0, body(30, at=9)), (1, 0, broken)), CleanUp(persons=1, motion=motion))
        assert np.array_equal(cleaned.clip.tracks[0].data, np.delete(broken, 3, 0))


def test_nan_in_every_frame():
    cleaned = clean_up(clip_of((0, 0, body(30) * np.float32("nan"))))
    assert cleaned.clip is None and steps(cleaned) == {"frames with NaN": 1, "no body": 1}


def test_where_nan_is_not_dropped_the_clip_is_left_out():
    broken = body(30)
    broken[7, 0, 0] = np.nan
    cleaned = clean_up(clip_of((3, 2, broken), frames=32), CleanUp(drop_nan=False))
    assert cleaned.clip is None
    assert cleaned.left_out[0].reason == "coordinates must be finite, got NaN in frame 9 of body 3"


def test_scores_are_no_coordinates():
    """An estimator's score that jumps is no motion."""
    still, walker = body(30), body(30, at=9, step=0.1)
    still[..., 2] = np.random.default_rng(0).choice([0, 100], (30, 5))
    walker[..., 2] = 0.5
    clip = clip_of((0, 0, still), (1, 0, walker))
    assert np.array_equal(clean_up(clip, CleanUp(persons=1), "xys").clip.tracks[0].data, walker)
    assert np.array_equal(clean_up(clip, CleanUp(persons=1), "xyz").clip.tracks[0].data, still)


@st.composite
def crowds(draw):
    """Clips of any number of bodies that come and go, NaN here and there."""
    frames = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    tracks = []
    for person in draw(st.lists(st.integers(0, 9), max_size=6, unique=True)):
        edges = np.flatnonzero(np.diff([0, *draw(st.lists(st.booleans(), min_size=frames, max_size=frames)), 0]))
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            data = rng.normal(0, rng.uniform(0.01, 2, 3), (end - begin, 5, 3)).astype(np.float32)
            data[rng.random(end - begin) < draw(st.sampled_from([0, 0.2]))] = np.nan
            tracks.append((person, int(begin), data))
    return clip_of(*tracks, frames=frames)


options = st.builds(
    CleanUp, join_bodies=st.booleans(), short=st.sampled_from([0, 2, 11]), wide=st.sampled_from([0, 0.8]),
    persons=st.integers(0, 3), motion=st.sampled_from(["variance", "energy"]), fill_persons=st.booleans(),
    drop_empty=st.booleans(),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(clip=crowds(), options=options)
def test_what_is_left_is_a_clip_of_the_source(clip, options):
    cleaned, again = clean_up(clip, options), clean_up(clip, options)
    assert cleaned.left_out == again.left_out
    assert all(entry.reason.startswith(tuple(f"{step}: " for step in STEPS)) for entry in cleaned.left_out)
    if cleaned.clip is None:
        assert "no body" in steps(cleaned)
        return
    given_poses = {pose.tobytes() for track in clip.tracks for pose in track.data}
    there = np.zeros((10, cleaned.clip.frames), int)
    for track in cleaned.clip.tracks:
        assert track.data.dtype == np.float32 and len(track.data) and np.isfinite(track.data).all()
        assert {pose.tobytes() for pose in track.data} <= given_poses
        there[track.person, track.start : track.start + len(track.data)] += 1
        assert 0 <= track.start <= cleaned.clip.frames - len(track.data)
    assert there.max() <= 1
    if options.persons:
        assert there[options.persons :].sum() == 0
    if options.drop_empty:
        assert there.any(0).all()


@settings(max_examples=60, deadline=None)
@given(clip=crowds())
def test_without_any_step_nothing_changes(clip):
    cleaned = clean_up(clip, OFF)
    if any(np.isnan(track.data).any() for track in clip.tracks):
        assert cleaned.clip is None and len(cleaned.left_out) == 1
        return
    assert cleaned.left_out == () and cleaned.clip.frames == clip.frames
    assert spans(cleaned.clip) == sorted(spans(clip))
    assert all(np.array_equal(one.data, other.data) for one, other in
               zip(cleaned.clip.tracks, sorted(clip.tracks, key=lambda track: track[:2]), strict=True))  # fmt: skip


class Listed:
    """A source of some clips."""

    format = "listed"
    header = Header("listed", Skeleton.from_edges([(0, 1), (1, 2), (2, 3), (3, 4)]), "xyz", ())
    parts = ("first", "second")

    def read(self, part):
        if part == "first":
            yield LeftOut("x", "line 3: broken")
            yield clip_of((0, 0, body(5, at=9)), (1, 0, body(30)))
        else:
            yield clip_of()
            yield clip_of((0, 0, body(30)))


def test_every_source_can_be_cleaned():
    source = CleanSource(Listed())
    assert (source.format, source.header, source.parts) == ("listed", Listed.header, Listed.parts)
    first, second = (list(source.read(part)) for part in source.parts)
    assert [type(entry) for entry in first] == [LeftOut, LeftOut, Clip] and spans(first[2]) == [(0, 0, 30)]
    assert [type(entry) for entry in second] == [LeftOut, Clip]
    assert count_steps([*first[:2], second[0]]) == {"short bodies": 1, "no body": 1}
    untouched = CleanSource(Listed(), OFF)
    assert [len(list(untouched.read(part))) for part in source.parts] == [2, 2]


@pytest.mark.parametrize("wrong", [{"short": -1}, {"persons": -2}, {"wide": float("nan")}, {"motion": "speed"}])
def test_options_that_are_none(wrong):
    with pytest.raises(ValueError, match=f"CleanUp: {next(iter(wrong))} must be "):
        CleanUp(**wrong)
