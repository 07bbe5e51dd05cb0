"""Pipelines and samplers against plain loops that follow the projects' code clip by clip."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import stores
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asma.config import DataConfig
from asma.data import Clip, ClipSet, Header, Track, builtin_clips, open_store
from asma.data.pipelines import PIPELINES, ctrgcn, pstl, pyskl
from asma.data.samplers import Sample, even_frames, even_test_frames, random_crop
from asma.prepare import Prepared, prepare, stream
from asma_kernels import Skeleton

NTU = Skeleton.builtin("ntu25")
PADDED = 300


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Real movements in one to three persons, some of whom come late, leave, or leave and come back."""
    made = builtin_clips(classes=3, subjects=3, views=2, repeats=1)
    clips = []
    for number in range(len(made)):
        whole, other = made.clip(number) + [0, 0, 3], made.clip((number + 7) % len(made)) + [0.7, 0, 3.3]
        length = len(whole) if number % 5 else 1 + number
        tracks = [Track(0, 0, whole[:length])]
        if number % 3 == 1:
            other = other[:length]
            tracks.append(Track(1, length - len(other), other))
        elif number % 3 == 2 and length > 20:
            tracks = [Track(0, 5, whole[5:10]), Track(0, 14, whole[14:length]), Track(1, 0, whole[:length] + 1)]
            tracks.append(Track(2, 3, whole[3:5] - 1))
        clips.append(Clip(f"c{number}", length, tuple(tracks), number % 3))
    clips.append(Clip("nobody", 4, ()))
    header = Header("people", NTU, "xyz", ("a", "b", "c"))
    return open_store(stores.write(tmp_path_factory.mktemp("people") / "s", clips, header))


def raw(store, number, persons=2):
    """What the projects' files hold of a clip: (3, 300, V, M), zeros where nobody is."""
    whole = store.clip(number)
    out = np.zeros((3, PADDED, 25, persons), np.float32)
    for person in range(min(persons, len(whole))):
        for frame in range(whole.shape[1]):
            out[:, frame, :, person] = whole[person, frame].T
    return out


def pstl_by_loops(data, frames):
    """AimCLR, feeder/NTUDatasets.py: length, relative coordinates, linear resizing, turns about y."""
    C, T, V, M = data.shape
    length = sum(1 for t in range(T) if any(data[c, t, 0, 0] != 0 for c in range(3)))
    out = np.zeros((C, frames, V, M))
    if length == 0:
        return out
    for m in range(M):
        relative = data[:, :length, :, m] - data[:, :length, 20:21, m]
        for t in range(frames):
            at = min(max((t + 0.5) * length / frames - 0.5, 0), length - 1)
            low = int(at)
            high = min(low + 1, length - 1)
            out[:, t, :, m] = relative[:, low] + (relative[:, high] - relative[:, low]) * (at - low)
        across = [out[:, t, 8, m] - out[:, t, 4, m] for t in range(frames)]
        direction = -1 if sum(vector[2] for vector in across) >= 0 else 1
        for t, (x, _, z) in enumerate(across):
            angle = direction * np.arccos(x / (np.sqrt(x * x + z * z) + 0.0001))
            matrix = [[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]]
            for v in range(V):
                out[:, t, v, m] = np.dot(matrix, out[:, t, v, m])
    return out


def translated(data):
    """CTR-GCN: frames without a body dropped, the first frame's joint 1 of person 0 subtracted from who is there."""
    there = [t for t in range(data.shape[1]) if data[:, t].any()]
    data = data[:, there].copy()
    first = next((t for t in range(len(there)) if data[:, t, :, 0].any()), None)
    if first is None:
        first = 0
    if there:
        origin = data[:, first, 1, 0].copy()
        for t in range(len(there)):
            for m in range(data.shape[3]):
                if data[:, t, :, m].any():
                    data[:, t, :, m] -= origin[:, None]
    return data


def ctrgcn_by_loops(data, frames, crop=None):
    """feeders/tools.py, valid_crop_resize, with torch's own interpolation as there."""
    data = translated(data)
    C, valid, V, M = data.shape
    if valid == 0:
        return np.zeros((C, frames, V, M))
    if crop is None:
        bias = int((1 - 0.95) * valid / 2)
        crop = (bias, valid - 2 * bias)
    part = torch.tensor(data[:, crop[0] : crop[0] + crop[1]]).permute(0, 2, 3, 1).reshape(1, 1, C * V * M, crop[1])
    out = torch.nn.functional.interpolate(part, size=(C * V * M, frames), mode="bilinear", align_corners=False)
    return out.reshape(C, V, M, frames).permute(0, 3, 1, 2).numpy()


def rotation(vector, axis):
    """pyskl, PreNormalize3D: the matrix from angle_between and rotation_matrix, by Rodrigues' formula."""
    about = np.cross(vector, axis)
    if np.abs(vector).sum() < 1e-6 or np.abs(about).sum() < 1e-6:
        return np.eye(3)
    angle = np.arccos(np.clip(np.dot(vector / np.linalg.norm(vector), axis), -1, 1))
    if abs(angle) < 1e-6:
        return np.eye(3)
    x, y, z = about / np.linalg.norm(about)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def pyskl_by_loops(data, frames, times=None):
    """PreNormalize3D, then the frames of UniformSampleFrames for tests."""
    skeleton = data.transpose(3, 1, 2, 0).astype(np.float64)
    if not skeleton.any():
        return np.zeros((3, frames, 25, skeleton.shape[0]))
    present = [[t for t in range(PADDED) if np.abs(skeleton[m, t]).max() > 1e-8] for m in range(2)]
    more = int(len(present[0]) < len(present[1]))
    skeleton = skeleton[[more, 1 - more]][:, present[more]]
    centre = skeleton[0, 0, 1].copy()
    for place in np.ndindex(skeleton.shape[:3]):
        if skeleton[place].any():
            skeleton[place] -= centre
    for joints, axis in (((1, 0), (0, 0, 1)), ((8, 4), (1, 0, 0))):
        matrix = rotation(skeleton[0, 0, joints[0]] - skeleton[0, 0, joints[1]], np.array(axis))
        skeleton = np.array([[[matrix @ joint for joint in frame] for frame in person] for person in skeleton])
    length = skeleton.shape[1]
    times = frames_of_tests(length, frames) if times is None else times(length)
    return skeleton[:, times].transpose(3, 1, 2, 0)


def frames_of_tests(length, frames):
    """UniformSampleFrames._get_test_clips, one clip: it seeds NumPy's global generator with 255 each time."""
    state = np.random.RandomState(255)
    state.rand()
    state.randint(1)
    if length < frames:
        return [t % length for t in range(frames)]
    if length < 2 * frames:
        skipped = set(state.choice(frames + 1, length - frames, replace=False).tolist())
        times, shift = [], 0
        for t in range(frames):
            shift += t in skipped
            times.append(t + shift)
        return times
    starts = [t * length // frames for t in range(frames + 1)]
    return [start + int(draw) for start, draw in zip(starts, state.randint(np.diff(starts)), strict=False)]


@pytest.mark.parametrize(
    ("name", "frames"), [("pstl", 50), ("ctrgcn", 64), ("ctrgcn", 20), ("pyskl", 30), ("pyskl", 100)]
)
def test_pipelines_follow_the_projects(people, name, frames):
    by_loops = {"pstl": pstl_by_loops, "ctrgcn": ctrgcn_by_loops, "pyskl": pyskl_by_loops}[name]
    out = PIPELINES[name](people, frames, 2)
    assert out.shape == (len(people), 3, frames, 25, 2) and out.dtype == np.float32 and out.flags.c_contiguous
    for number in range(len(people)):
        np.testing.assert_allclose(out[number], by_loops(raw(people, number), frames), atol=2e-5, err_msg=str(number))


def pyskl_2d_by_loops(clip, frames, picture):
    """PreNormalize2D with scores appended, mode "fix" or (without a picture) "auto", then the frames of tests."""
    seen = [(clip[place][0], clip[place][1]) for place in np.ndindex(clip.shape[:3]) if clip[place][2] > 0.01]
    middle, half = [0, 0], [1, 1]
    if picture != (0, 0):
        middle = half = [picture[0] / 2, picture[1] / 2]
    elif seen:
        high, low = np.max(seen, 0), np.min(seen, 0)
        if high[0] - low[0] > 10 and high[1] - low[1] > 10:
            middle, half = (high + low) / 2, (high - low) / 2
    out = np.zeros(clip.shape)
    for place in np.ndindex(clip.shape[:3]):
        x, y, score = clip[place]
        out[place] = [(x - middle[0]) / half[0], (y - middle[1]) / half[1], score] if score > 0.01 else [0, 0, score]
    return out[:, frames_of_tests(clip.shape[1], frames)].transpose(3, 1, 2, 0)


@pytest.mark.parametrize("picture", [(1920, 1080), (340, 256), (0, 0)])
def test_clips_of_pictures_follow_pyskl(tmp_path, picture):
    """People who come and go, joints that were hardly seen, a clip that hardly spreads, one of nobody."""
    rng = np.random.default_rng(1)
    coco, clips = Skeleton.builtin("coco17"), [Clip("nobody", 3, ())]
    for number, length in enumerate((1, 7, 30, 64, 90)):
        x = rng.uniform(0, (1920, 1080, 1), (2, length, 17, 3)).astype(np.float32)
        x[rng.random((2, length, 17)) < 0.2, 2] = 0.004
        x[..., :2] *= 0.004 if number == 2 else 1
        tracks = (Track(0, 0, x[0]), Track(1, length // 3, x[1, : length - length // 3]))
        clips.append(Clip(f"c{number}", length, tracks[: 1 + number % 2]))
    store = open_store(stores.write(tmp_path / "s", clips, Header("t", coco, "xys", ())))
    out = pyskl(store, 40, 2, picture=picture)
    assert out.dtype == np.float32 and out.flags.c_contiguous
    for number in range(len(store)):
        whole = np.zeros((2, store.lengths[number], 17, 3), np.float32)
        found = store.clip(number)
        whole[: len(found)] = found
        np.testing.assert_allclose(out[number], pyskl_2d_by_loops(whole, 40, picture), rtol=1e-5, atol=1e-4)
    config = DataConfig(pipeline="pyskl", frames=40, persons=2, picture=picture)
    assert np.array_equal(prepare(store, config).numpy(), out)
    index = [4, 2, 4]
    drawn = pyskl(store, 40, 2, sample=Sample(3, 1), picture=picture)
    assert np.array_equal(pyskl(store, 40, 2, index, Sample(3, 1), picture), drawn[index])
    assert not np.array_equal(drawn, out)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_clip_does_not_depend_on_the_others(people, name, monkeypatch):
    whole = PIPELINES[name](people, 16, 2, sample=Sample(3, 1))
    index = [7, 2, 18, 7]
    assert np.array_equal(PIPELINES[name](people, 16, 2, index, Sample(3, 1)), whole[index])
    monkeypatch.setattr("asma.data.pipelines.BLOCK_BYTES", 1)
    assert np.array_equal(PIPELINES[name](people, 16, 2, sample=Sample(3, 1)), whole)
    one = PIPELINES[name](people, 16, 1)
    assert one.shape == (len(people), 3, 16, 25, 1)


def test_pipelines_of_a_clip_set_are_those_of_its_store(tmp_path):
    clips = builtin_clips(classes=2, subjects=2, views=1, repeats=1)
    made = [Clip(str(clips.name[i]), int(clips.lengths[i]), (Track(0, 0, clips.clip(i)),)) for i in range(len(clips))]
    store = open_store(stores.write(tmp_path / "s", made, Header("t", NTU, "xyz", ())))
    for pipeline in (pstl, ctrgcn, pyskl):
        assert np.array_equal(pipeline(clips, 20, 2), pipeline(store, 20, 2))


@pytest.mark.parametrize("layout", ["utd20", "ucla20"])
def test_other_layouts_by_the_names_of_their_joints(layout):
    """The shoulders lie along x, whatever the joints' numbers are."""
    skeleton = Skeleton.builtin(layout)
    data = np.random.default_rng(0).normal(size=(9, 20, 3)).astype(np.float32)
    clips = ClipSet(data, [0, 9], [0], [0], [0], ["a"], ("x",), skeleton, "t")
    names = {name: joint for joint, name in enumerate(skeleton.names)}
    first = pyskl(clips, 9, 1)[0, :, 0, :, 0]
    across = first[:, names["shoulder_right"]] - first[:, names["shoulder_left"]]
    np.testing.assert_allclose(across[1:], 0, atol=1e-5)
    assert across[0] > 0
    turned = pstl(clips, 9, 1)[0, :, :, :, 0]
    assert np.abs(turned[:, :, skeleton.centre]).max() < 1e-6
    with pytest.raises(ValueError, match="pyskl: the skeleton coco17 has no joints named base_of_spine and"):
        pyskl(replace(clips, data=data[:, :17], skeleton=Skeleton.builtin("coco17")), 4)
    with pytest.raises(ValueError, match="pstl: the skeleton hand has no joint named left_shoulder"):
        pstl(replace(clips, skeleton=replace(skeleton, name="hand", names=tuple(map(str, range(20))))), 4)


def test_what_cannot_be_prepared_is_refused(tmp_path, people):
    scores = open_store(stores.write(tmp_path / "s", [stores.clip(0)], Header("t", stores.CHAIN, "xys", ("a",))))
    for name, pipeline in PIPELINES.items():
        if name != "pyskl":
            with pytest.raises(ValueError, match=f"{name}: (clips must have channels xyz, got xys|the skeleton chain)"):
                pipeline(scores, 4)
        for frames, persons in ((0, 1), (2.0, 1), (True, 1), (4, 0)):
            with pytest.raises(ValueError, match=f"{name}: (frames|persons) must be"):
                pipeline(people, frames, persons)
        with pytest.raises(ValueError, match=rf"{name}: a clip must be in \[0, 19\), got 19"):
            pipeline(people, 4, 1, [19])
    with pytest.raises(ValueError, match="pyskl: persons must be 1 or 2, got 3"):
        pyskl(people, 4, 3)
    for picture in ((-1, 5), (640, 0)):
        with pytest.raises(ValueError, match="pyskl: picture must be a width and a height, or 0 and 0 for none, got"):
            pyskl(scores, 4, picture=picture)
        with pytest.raises(ValueError, match="data.picture must be a width and a height, or 0 and 0, got"):
            DataConfig(picture=picture)
    assert ctrgcn(people, 4, 3).shape[-1] == pstl(people, 4, 3).shape[-1] == 3


@settings(deadline=None, max_examples=60)
@given(
    length=st.integers(1, 400), frames=st.integers(1, 130), seed=st.integers(0, 2**63 - 1), clip=st.integers(0, 2**40)
)
def test_even_frames_are_one_of_each_part(length, frames, seed, clip):
    (times,) = even_frames(np.array([length]), frames, Sample(seed, 3), np.array([clip]))
    assert times.min() >= 0 and times.max() < length
    if length < frames:
        assert np.array_equal(times, (times[0] + np.arange(frames)) % length)
    elif length < 2 * frames:
        assert (
            len(set(times.tolist())) == frames and (np.diff(times) > 0).all() and np.diff(times, prepend=-1).max() <= 2
        )
    else:
        starts = [t * length // frames for t in range(frames + 1)]
        assert all(low <= time < high for low, time, high in zip(starts[:-1], times, starts[1:], strict=True))
    np.testing.assert_array_equal(even_test_frames(np.array([length]), frames)[0], frames_of_tests(length, frames))


def test_random_crops_have_the_shares_and_places_they_should():
    clips = np.arange(4000)
    begin, length = random_crop(np.full(4000, 300), Sample(0, 0), clips)
    assert length.min() >= 150 and length.max() <= 300 and (begin >= 0).all() and (begin + length <= 300).all()
    assert abs(length.mean() - 225) < 3 and abs(((begin + 0.5) / (300 - length + 1)).mean() - 0.5) < 0.02
    begin, length = random_crop(np.array([100, 64, 10]), Sample(0, 0), np.arange(3))
    assert length[0] >= 64 and length[1:].tolist() == [64, 10] and begin[1:].tolist() == [0, 0]


def test_an_epoch_is_the_same_in_any_order_and_another_epoch_is_another(people):
    order = np.random.default_rng(0).permutation(len(people))
    first = ctrgcn(people, 16, 2, sample=Sample(5, 0))
    assert np.array_equal(ctrgcn(people, 16, 2, order, Sample(5, 0)), first[order])
    assert not np.array_equal(ctrgcn(people, 16, 2, sample=Sample(5, 1)), first)
    assert not np.array_equal(ctrgcn(people, 16, 2, sample=Sample(6, 0)), first)
    # The words are Philox's own, so that they stay the same whatever NumPy does to its generators.
    assert Sample(1, 2).words(np.array([3]), 2).tolist() == [[2533144363980168765, 4154714089138655030]]


def test_a_random_crop_is_resized_like_the_loops(people):
    out = ctrgcn(people, 16, 2, sample=Sample(5, 0))
    for number in range(len(people)):
        data = raw(people, number)
        valid = np.array([translated(data).shape[1]])
        (begin,), (length,) = random_crop(valid, Sample(5, 0), np.array([number]))
        np.testing.assert_allclose(out[number], ctrgcn_by_loops(data, 16, (begin, length)), atol=2e-5)


class TestStreams:
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 25, 2)).astype(np.float32)

    def test_every_person_has_its_own(self):
        for name in ("bone", "motion"):
            both = stream(self.x, NTU, name)
            for person in range(2):
                alone = stream(np.ascontiguousarray(self.x[..., person : person + 1]), NTU, name)
                assert np.array_equal(both[..., person : person + 1], alone)
        bones = stream(self.x, NTU, "bone")
        for joint, parent in NTU.bones:
            assert np.array_equal(bones[:, :, :, joint], self.x[:, :, :, joint] - self.x[:, :, :, parent])
        assert not bones[:, :, :, NTU.centre].any()

    def test_scores_become_means(self):
        bones, motion = (stream(self.x, NTU, name, "xys") for name in ("bone", "motion"))
        np.testing.assert_allclose(bones[:, 2, :, 0], (self.x[:, 2, :, 0] + self.x[:, 2, :, 1]) / 2)
        np.testing.assert_allclose(motion[:, 2, 1], (self.x[:, 2, 1] + self.x[:, 2, 2]) / 2)
        assert not motion[:, :, -1].any()
        np.testing.assert_array_equal(motion[:, :2, 1], self.x[:, :2, 2] - self.x[:, :2, 1])


class TestPrepare:
    @pytest.mark.parametrize("pipeline", ["asma", *PIPELINES])
    @pytest.mark.parametrize("stream_name", ["joint", "bone", "motion"])
    def test_rows_are_those_of_the_whole(self, people, pipeline, stream_name):
        config = DataConfig(frames=10, persons=2, pipeline=pipeline, stream=stream_name, scale=True)
        whole = prepare(people, config)
        prepared = Prepared(people, config)
        assert tuple(whole.shape) == prepared.shape == (len(people), 3, 10, 25, 2)
        index = np.array([3, 17, 3, 18])
        assert torch.equal(prepared.rows(index), whole[index])

    def test_scores_stay(self):
        header = Header("t", stores.CHAIN, "xys", ("a", "b"))
        with tempfile.TemporaryDirectory() as folder:
            clips = open_store(stores.write(Path(folder) / "s", [stores.clip(i) for i in range(3)], header))
            config = DataConfig(frames=6, face="none", centre="frame", scale=True)
            x, before = prepare(clips, config).numpy(), clips.resample(6)
            assert np.array_equal(x[:, 2], before[:, 2])
            assert not x[:, :2, :, 1].any()
            bones = np.linalg.norm(x[:, :2, :, [0, 1]] - x[:, :2, :, [1, 2]], axis=1)
            np.testing.assert_allclose(bones.mean((1, 2, 3)), 1, rtol=1e-5)
            with pytest.raises(ValueError, match="data.face must be none"):
                Prepared(clips, replace(config, face="hips"))
