"""Pretraining: the views, the step, and runs that stop and go on."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import training_runs
from torch.utils._python_dispatch import TorchDispatchMode

import asma_kernels
from asma import pretrain as pretraining
from asma.checkpoint import load_encoder
from asma.config import DataConfig, MaskConfig, OptimiserConfig, PretrainConfig, ViewConfig, preset, with_masks
from asma.data.order import Batches
from asma.pretrain import NonFiniteLossError, Pretraining, learning_rate, pretrain
from asma.views import ThreeViews
from asma_kernels import Skeleton

SKELETON = Skeleton.builtin("ucla20")
CONFIG = replace(training_runs.CONFIG, checkpoint_every=5)


@pytest.fixture(autouse=True)
def one_thread():
    """These models are too small for a second one to help, and two test processes would fight for the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def clips() -> torch.Tensor:
    """Random walks, each clip with a direction of its own."""
    steps = torch.randn(30, 3, 12, 20, 1) * 0.05 + torch.randn(30, 3, 1, 20, 1) * 0.1
    return steps.cumsum(2)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    encoder, _ = load_encoder(folder)
    return encoder.state_dict()


def assert_same_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert torch.equal(tensor, b[name]), name


def stop_in_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ctrl-C in the middle of a step."""
    train_step = Pretraining.train_step

    def interrupted(run: Pretraining) -> torch.Tensor:
        if run.step + 1 == step:
            raise KeyboardInterrupt
        return train_step(run)

    monkeypatch.setattr(Pretraining, "train_step", interrupted)


def test_stopped_and_resumed_is_bit_equal(tmp_path: Path, clips: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrain(CONFIG, clips, SKELETON, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_in_step(patch, 9)
        pretrain(CONFIG, clips, SKELETON, tmp_path / "parts")
    # Step 8 was logged, but the run goes on from step 5.
    assert json.loads((tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 8
    torch.manual_seed(999)  # another process
    pretrain(CONFIG, clips, SKELETON, tmp_path / "parts", resume=True)
    assert_same_weights(weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts"))
    losses = [
        [(line["step"], line["loss"], line["lr"]) for line in map(json.loads, file.read_text().splitlines())]
        for file in (tmp_path / "whole" / "metrics.jsonl", tmp_path / "parts" / "metrics.jsonl")
    ]
    assert losses[0] == losses[1]
    assert [step for step, _, _ in losses[0]] == [2, 4, 5, 6, 8, 10, 12]


@pytest.mark.parametrize("changes", [{"joint_mode": "tokens"}, {"per_clip": True}, {"joint_mode": "deterministic"}])
def test_resume_with_every_way_to_mask(
    tmp_path: Path, clips: torch.Tensor, monkeypatch: pytest.MonkeyPatch, changes: dict
) -> None:
    config = replace(CONFIG, masks=replace(CONFIG.masks, **changes), optimiser=replace(CONFIG.optimiser, steps=8))
    pretrain(config, clips, SKELETON, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_in_step(patch, 7)
        pretrain(config, clips, SKELETON, tmp_path / "parts")
    pretrain(config, clips, SKELETON, tmp_path / "parts", resume=True)
    assert_same_weights(weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts"))


def test_seeds_repeat_and_differ(tmp_path: Path, clips: torch.Tensor) -> None:
    short = replace(CONFIG, optimiser=replace(CONFIG.optimiser, steps=3))
    for name, config in (("a", short), ("b", short), ("c", replace(short, seed=1))):
        pretrain(config, clips, SKELETON, tmp_path / name)
    assert_same_weights(weights_of(tmp_path / "a"), weights_of(tmp_path / "b"))
    name = "st_gcn_networks.1.tcn.2.weight"
    assert not torch.equal(weights_of(tmp_path / "a")[name], weights_of(tmp_path / "c")[name])


def test_loss_falls(tmp_path: Path, clips: torch.Tensor) -> None:
    config = replace(CONFIG, optimiser=replace(CONFIG.optimiser, steps=60), log_every=10)
    pretrain(config, clips, SKELETON, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]
    assert all(line["clips_per_second"] > 0 for line in lines)


def test_first_step_is_adam_on_both_losses(clips: torch.Tensor) -> None:
    """The step written out: the same batch, views and dropout through the same modules."""
    config = replace(CONFIG, encoder=replace(CONFIG.encoder, dropout=0.0))
    run, other = Pretraining(config, clips, SKELETON), Pretraining(config, clips, SKELETON)
    loss = run.train_step()["loss"]
    batch = clips[torch.randperm(30, generator=torch.Generator().manual_seed(0))[:8]]
    views = other.views(batch)

    def barlow(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        a, b = ((z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt() for z in (a, b))
        c = a.T @ b / 8
        off = c - torch.diag(c.diagonal())
        return (c.diagonal() - 1).square().sum() + 5e-3 * off.square().sum()

    anchor = other.projector(other.encoder(views.anchor))
    spatial = other.projector(other.encoder(views.spatial, views.joints))
    temporal = other.projector(other.encoder(views.temporal))
    expected = barlow(anchor, temporal) + barlow(anchor, spatial)
    torch.testing.assert_close(loss, expected.detach())
    expected.backward()
    before = {name: parameter.detach().clone() for name, parameter in other.encoder.named_parameters()}
    lr = learning_rate(config.optimiser, 0, 12)
    for name, parameter in run.encoder.named_parameters():
        gradient = other.encoder.get_parameter(name).grad + 1e-5 * before[name]
        # The first step of Adam: the moments are the gradient's own.
        step = lr * gradient / (gradient.abs() + 1e-8)
        clear = gradient.abs() > 1e-4
        torch.testing.assert_close(parameter.detach()[clear], (before[name] - step)[clear], rtol=1e-3, atol=1e-5)


def test_step_does_not_wait_for_the_device(clips: torch.Tensor) -> None:
    class NoReading(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
            assert function not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
            return function(*args, **(kwargs or {}))

    for changes in ({}, {"per_clip": True}):
        run = Pretraining(replace(CONFIG, masks=replace(CONFIG.masks, **changes)), clips, SKELETON)
        run.train_step()
        with NoReading():
            run.train_step()


@pytest.mark.parametrize("bfloat16", [False, True])
def test_paper_masks_on_ntu(bfloat16: bool) -> None:
    """One step with the paper's views, masks and encoder; a smaller projector."""
    config = preset("asma")
    config = replace(
        config,
        projector=replace(config.projector, width=64),
        optimiser=replace(config.optimiser, batch=4),
        bfloat16=bfloat16,
    )
    run = Pretraining(config, torch.randn(4, 3, 50, 25, 2).cumsum(2) * 0.05, Skeleton.builtin("ntu25"))
    assert run.train_step()["loss"].isfinite()
    assert run.total_steps == 150


class TestViews:
    def views(self, masks: MaskConfig, views: ViewConfig, clips: torch.Tensor, skeleton: Skeleton = SKELETON):  # noqa: ANN201
        return ThreeViews(views, masks, skeleton, 0, torch.device("cpu"))(clips)

    def test_masks_of_e1_and_e2(self) -> None:
        """Without augmentation: e1 loses frames of little motion, e2 those of much; both lose the right joints."""
        plain = ViewConfig(crop=0, shear=0.0, rotation=0.0, flip=0.0)
        speed = torch.tensor([1.0, 9, 2, 8, 3, 7, 4, 6, 5])  # of frame 0 to 1, 1 to 2, ...
        position = torch.cat([torch.zeros(1), speed.cumsum(0)])
        clip = position.view(1, 1, 10, 1, 1).expand(2, 3, 10, 20, 1).contiguous()
        # The last frame has no successor and counts as one without motion.
        for name, kept in (("e1", [1, 3, 4, 5, 6, 7, 8]), ("e2", [0, 2, 4, 6, 7, 8, 9])):
            masks = with_masks(replace(CONFIG, masks=MaskConfig(joints=4, frames=3, extra_frames=0)), name).masks
            masks = replace(masks, joint_mode="deterministic")
            views = self.views(masks, plain, clip)
            assert torch.equal(views.anchor, clip) and torch.equal(views.spatial, clip)
            assert torch.equal(views.temporal, clip[:, :, kept])
            degrees = torch.tensor(SKELETON.degrees)
            dropped = [v for v in range(20) if v not in views.joints.tolist()]
            rest = degrees[views.joints]
            if name == "e1":
                assert degrees[dropped].min() >= rest.max()
            else:
                assert degrees[dropped].max() <= rest.min()

    def test_each_view_has_its_own_draw(self, clips: torch.Tensor) -> None:
        views = self.views(CONFIG.masks, ViewConfig(), clips)
        assert not torch.allclose(views.anchor, views.spatial)

    def test_per_clip_and_per_batch(self) -> None:
        same = torch.randn(1, 3, 12, 20, 1).expand(6, -1, -1, -1, -1)
        for per_clip in (False, True):
            masks = replace(CONFIG.masks, per_clip=per_clip)
            views = self.views(masks, ViewConfig(per_clip=per_clip), same)
            assert torch.equal(views.anchor[0], views.anchor[1]) != per_clip
            assert torch.equal(views.temporal[0], views.temporal[1]) != per_clip
            assert views.joints.shape == ((6, 16) if per_clip else (16,))

    def test_tokens_drop_one_to_k_joints(self, clips: torch.Tensor) -> None:
        maker = ThreeViews(ViewConfig(), MaskConfig(joints=8, joint_mode="tokens", frames=1), SKELETON, 0, clips.device)
        counts = {len(maker(clips).joints) for _ in range(30)}
        assert counts <= set(range(12, 20)) and len(counts) > 2

    def test_energy_is_that_of_the_augmented_view(self, clips: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = []
        drop = asma_kernels.frame_drop
        monkeypatch.setattr(
            asma_kernels, "frame_drop", lambda x, *rest, **more: seen.append(x) or drop(x, *rest, **more)
        )
        views = self.views(replace(CONFIG.masks, extra_frames=0, frames=1), ViewConfig(), clips)
        (whole,) = seen
        assert whole.shape[2] == 12 and views.temporal.shape[2] == 11
        for clip, kept in zip(whole, views.temporal, strict=True):
            frames = [t for t in range(12) if any(torch.equal(clip[:, t], kept[:, s]) for s in range(11))]
            assert len(frames) >= 11


class TestBatches:
    def test_an_epoch_visits_each_clip_at_most_once(self) -> None:
        batches = Batches(10, 4, 0, torch.device("cpu"))
        first = torch.cat([batches.next(), batches.next()])
        second = torch.cat([batches.next(), batches.next()])
        assert len(first.unique()) == 8 and len(second.unique()) == 8
        assert not torch.equal(first, second)

    def test_state_goes_on_in_mid_epoch(self) -> None:
        batches = Batches(10, 3, 0, torch.device("cpu"))
        batches.next()
        state = batches.state()
        expected = [batches.next() for _ in range(5)]
        other = Batches(10, 3, 77, torch.device("cpu"))
        other.load_state(state)
        assert all(torch.equal(other.next(), batch) for batch in expected)


def test_learning_rate_warms_up_and_falls() -> None:
    config = OptimiserConfig(lr=2.0, warmup=0.1)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates[9] == 2.0 and rates[0] == 0.2
    assert all(a < b for a, b in zip(rates[:9], rates[1:10], strict=True))
    assert all(a > b for a, b in zip(rates[10:-1], rates[11:], strict=True))
    assert rates[55] == pytest.approx(1.0) and rates[-1] < 0.01
    assert learning_rate(OptimiserConfig(warmup=0.0), 0, 10) == 5e-3


def test_epochs_leave_out_what_does_not_fill_a_batch() -> None:
    assert OptimiserConfig(epochs=3, batch=8).total_steps(30) == 9
    assert OptimiserConfig(epochs=3, batch=8, steps=5).total_steps(30) == 5


def test_nothing_is_overwritten(tmp_path: Path, clips: torch.Tensor) -> None:
    folder = tmp_path / "run"
    pretrain(CONFIG, clips, SKELETON, folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(FileExistsError, match="holds a run already"):
        pretrain(CONFIG, clips, SKELETON, folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_resume_of_a_finished_run_changes_nothing(tmp_path: Path, clips: torch.Tensor) -> None:
    pretrain(CONFIG, clips, SKELETON, tmp_path / "run")
    weights, metrics = weights_of(tmp_path / "run"), (tmp_path / "run" / "metrics.jsonl").read_text()
    pretrain(CONFIG, clips, SKELETON, tmp_path / "run", resume=True)
    assert_same_weights(weights, weights_of(tmp_path / "run"))
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == metrics


def test_resume_of_another_run_is_refused(tmp_path: Path, clips: torch.Tensor) -> None:
    pretrain(CONFIG, clips, SKELETON, tmp_path / "run")
    other = replace(CONFIG, optimiser=replace(CONFIG.optimiser, lr=1.0))
    with pytest.raises(ValueError, match=r"another optimiser.lr \(0.005, not 1.0\)"):
        pretrain(other, clips, SKELETON, tmp_path / "run", resume=True)
    with pytest.raises(ValueError, match="other clips"):
        pretrain(CONFIG, clips + 1, SKELETON, tmp_path / "run", resume=True)
    with pytest.raises(FileNotFoundError, match="holds no run"):
        pretrain(CONFIG, clips, SKELETON, tmp_path / "nothing", resume=True)


def test_stopped_before_the_first_checkpoint_starts_again(
    tmp_path: Path, clips: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain(CONFIG, clips, SKELETON, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_in_step(patch, 4)
        pretrain(CONFIG, clips, SKELETON, tmp_path / "parts")
    pretrain(CONFIG, clips, SKELETON, tmp_path / "parts", resume=True)
    assert_same_weights(weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": MaskConfig(joints=20)}, "masks.joints must be less than the 20 joints of ucla20, got 20"),
        ({"masks": MaskConfig(joints=4)}, r"less than the 12 frames of a clip, got 10 \+ 10"),
        ({"optimiser": OptimiserConfig(batch=31)}, "optimiser.batch must be at most the 30 training clips, got 31"),
        ({"data": DataConfig(frames=13)}, r"clips must be \(N, 3, 13, 20, M\), got shape \(30, 3, 12, 20, 1\)"),
        ({"device": "cuda:99"}, "device cuda:99 cannot be used"),
        ({"device": "teapot"}, "device teapot cannot be used"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(
    tmp_path: Path, clips: torch.Tensor, changes: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pretrain(replace(CONFIG, **changes), clips, SKELETON, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_flip_needs_a_mirror(tmp_path: Path) -> None:
    skeleton = Skeleton.from_edges([(v, v + 1) for v in range(19)])
    with pytest.raises(ValueError, match="views.flip must be 0"):
        pretrain(CONFIG, torch.zeros(30, 3, 12, 20, 1), skeleton, tmp_path / "run")


def test_non_finite_loss_names_the_step(tmp_path: Path, clips: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    barlow_twins = pretraining.barlow_twins

    def breaking(*args):  # noqa: ANN002, ANN202
        calls.append(1)
        loss = barlow_twins(*args)
        return loss * math.nan if len(calls) > 2 * 6 else loss  # two a step

    monkeypatch.setattr(pretraining, "barlow_twins", breaking)
    with pytest.raises(NonFiniteLossError, match="the loss became nan in step 7 of 12"):
        pretrain(CONFIG, clips, SKELETON, tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 5 and all(tensor.isfinite().all() for tensor in state["encoder"].values())


def test_a_single_frame_that_never_moves(tmp_path: Path) -> None:
    """Dead data must not become NaN."""
    config = replace(CONFIG, optimiser=replace(CONFIG.optimiser, steps=2))
    encoder = pretrain(config, torch.zeros(30, 3, 12, 20, 2), SKELETON, tmp_path / "run")
    assert all(parameter.isfinite().all() for parameter in encoder.parameters())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "cuda_graph needs a cuda device, got cpu"),
        (
            {"device": "cuda", "masks": MaskConfig(joint_mode="tokens")},
            "cuda_graph needs masks that the device draws: masks.joint_mode fixed or deterministic, got tokens",
        ),
    ],
)
def test_a_step_that_cannot_be_one_graph_is_refused(changed, words):
    with pytest.raises(ValueError, match=words):
        PretrainConfig(cuda_graph=True, **changed)
