"""What a pretraining run does, as data: dataclasses and presets. Their JSON file: config_file.py.

Every class checks itself when it is made, so that a bad value ends before anything is computed or written. What must
fit the data (joints of the skeleton, frames, clips) is checked by ``check_fits``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from asma_kernels import Skeleton

PAPER_CHANNELS = (16, 16, 16, 16, 32, 32, 32, 64, 64, 256)
PAPER_STRIDES = (1, 1, 1, 1, 2, 1, 1, 2, 1, 1)


LATER = {"later": True}
"""Of an option that files of earlier versions lack: it then has its default, or what its metadata calls `before`."""


def need(condition: bool, rule: str, found: object) -> None:
    """A rule about a value, and the ValueError that names both."""
    if not condition:
        raise ValueError(f"{rule}, got {found}")


@dataclass(frozen=True)
class DataConfig:
    """Which clips, and what is done to them once, before training."""

    clips: str = "builtin"
    """"builtin" (made by code), the folder of a store, or an .npz file with the .json of the same name beside it."""
    protocol: str = ""
    """How clips are split, for example subject-odd-even, view-12-3 or, by splits that the set brings along,
    xsub_train/xsub_val; empty for the usual split of the set."""
    persons: int = field(default=1, metadata=LATER)
    """M, the persons of a clip: 1, or 2 with zeros where there is no second one."""
    pipeline: Literal["asma", "pstl", "ctrgcn", "pyskl"] = field(default="asma", metadata=LATER)
    """How clips are cut, placed and turned. asma: centre, face and scale below, which the others do not look at; pstl,
    ctrgcn, pyskl: as those projects do it (docs/data.md)."""
    draw: bool = field(default=False, metadata=LATER)
    """Pretrain on crops (ctrgcn) or frames (pyskl) that are drawn anew in every epoch, as those projects train. The
    processor then makes clips ahead of their use, and they are not kept on the device."""
    picture: tuple[int, int] = field(default=(1920, 1080), metadata=LATER)
    """Width and height of the pictures that 2D clips are of, by which pyskl places and scales them; 0 0 for the range
    of each clip's own joints. The default is pyskl's and NTU RGB+D's."""
    centre: Literal["frame", "clip", "none"] = "frame"
    """Put the skeleton's centre joint at 0 in every frame, in the first frame, or leave it."""
    face: Literal["shoulders", "hips", "none"] = "shoulders"
    """Turn each clip about the vertical so that this pair of joints lies along x in its first frame."""
    scale: bool = False
    """Divide each clip by its mean bone length."""
    stream: Literal["joint", "bone", "motion"] = "joint"
    """Coordinates, joint minus parent, or frame-to-frame differences."""
    frames: int = 50
    """T, the frames that every clip is resampled to."""

    def __post_init__(self) -> None:
        need(self.frames >= 2, "data.frames must be at least 2", self.frames)
        need(self.persons in (1, 2), "data.persons must be 1 or 2", self.persons)
        sides = len(self.picture) == 2 and (min(self.picture) > 0 or self.picture == (0, 0))
        need(sides, "data.picture must be a width and a height, or 0 and 0", self.picture)
        drawing = self.pipeline in ("ctrgcn", "pyskl")
        need(not self.draw or drawing, "data.draw needs data.pipeline ctrgcn or pyskl", self.pipeline)


@dataclass(frozen=True)
class ViewConfig:
    """How the three views of a clip are augmented (PSTL, arXiv 2302.09018, section 4.2)."""

    crop: int = 6
    """Reflect T // crop frames at both ends and take T frames from a random start; 0 for no crop."""
    shear: float = 1.0
    """Off-diagonal elements of the shear are uniform in [-shear, shear]; 0 for none."""
    rotation: float = 30.0
    """Degrees about a random main axis, at most; 0 for none. The other axes turn by up to a degree."""
    flip: float = 0.5
    """Probability of a left-right flip; needs a skeleton that says which joints mirror which."""
    per_clip: bool = False
    """Draw for every clip, not once for the batch (PSTL)."""

    def __post_init__(self) -> None:
        need(self.crop >= 0, "views.crop must be at least 0", self.crop)
        need(self.shear >= 0, "views.shear must be at least 0", self.shear)
        need(0 <= self.rotation <= 180, "views.rotation must be in [0, 180] degrees", self.rotation)
        need(0 <= self.flip <= 1, "views.flip must be a probability", self.flip)


@dataclass(frozen=True)
class MaskConfig:
    """Which joints and frames the spatial and the temporal view lose."""

    degree: Literal["high", "low"] = "high"
    """Joints of high or of low degree are likelier to be dropped."""
    motion: Literal["high", "low"] = "low"
    """The frames of most or of least motion are dropped."""
    joints: int = 8
    """Joints to drop."""
    joint_mode: Literal["fixed", "tokens", "deterministic"] = "fixed"
    """fixed: exactly that many joints; tokens: PSTL's draw, which may hit a joint twice; deterministic: no draw."""
    frames: int = 10
    """Frames to drop by motion."""
    extra_frames: int = 10
    """Frames to drop at random after that."""
    per_clip: bool = False
    """Draw joints and extra frames for every clip, not once for the batch (PSTL)."""

    def __post_init__(self) -> None:
        need(self.joints >= 1, "masks.joints must be at least 1", self.joints)
        need(self.frames >= 0, "masks.frames must be at least 0", self.frames)
        need(self.extra_frames >= 0, "masks.extra_frames must be at least 0", self.extra_frames)
        if self.joint_mode == "tokens":
            need(not self.per_clip, "masks.per_clip must be off where joint_mode is tokens", "per_clip on")


MASKS = {
    "e1": MaskConfig(degree="high", motion="low"),
    "e2": MaskConfig(degree="low", motion="high"),
    "pstl": MaskConfig(degree="high", motion="high"),
}
"""The two encoders of ASMa, and PSTL's one."""


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the ST-GCN encoder; the default is PSTL's."""

    in_channels: int = 3
    channels: tuple[int, ...] = PAPER_CHANNELS
    """Channels of each block; the last is the size of the feature."""
    strides: tuple[int, ...] = PAPER_STRIDES
    """Stride over frames of each block."""
    kernel: int = 9
    """Frames under a temporal convolution, odd."""
    dropout: float = 0.5
    partition: Literal["uniform", "distance", "spatial", "spatial-full"] = "spatial"
    """How the graph is split; see asma_kernels.Skeleton.partition."""
    segments: int = 1
    """The feature is the means over that many equal parts of a clip, one after the other; pretraining takes one."""
    input_gain: float = 0.0
    """Start the first batch norm so that joints keep their share of the spread of all coordinates, which becomes this,
    and each joint and axis is shifted by a normal random number of its own; 0 for ones and zeros (PSTL)."""

    def __post_init__(self) -> None:
        need(self.in_channels >= 1, "encoder.in_channels must be at least 1", self.in_channels)
        need(
            len(self.channels) >= 1 and min(self.channels) >= 1,
            "encoder.channels must be positive numbers, one a block",
            self.channels,
        )
        need(
            len(self.strides) == len(self.channels) and min(self.strides) >= 1,
            f"encoder.strides must be {len(self.channels)} positive numbers, one a block",
            self.strides,
        )
        need(self.kernel >= 1 and self.kernel % 2 == 1, "encoder.kernel must be odd and positive", self.kernel)
        need(self.segments >= 1, "encoder.segments must be at least 1", self.segments)
        need(self.input_gain >= 0, "encoder.input_gain must be at least 0", self.input_gain)
        need(0 <= self.dropout < 1, "encoder.dropout must be in [0, 1)", self.dropout)


@dataclass(frozen=True)
class ProjectorConfig:
    """Sizes of the projector and the weight in the Barlow Twins loss."""

    width: int = 6144
    layers: int = 3
    lambd: float = 2e-4
    """Weight of the redundancy term."""

    def __post_init__(self) -> None:
        need(self.width >= 1, "projector.width must be at least 1", self.width)
        need(self.layers >= 1, "projector.layers must be at least 1", self.layers)
        need(self.lambd >= 0, "projector.lambd must be at least 0", self.lambd)


@dataclass(frozen=True)
class OptimiserConfig:
    """Adam with a linear warm-up and a cosine down to 0, step by step."""

    lr: float = 5e-3
    weight_decay: float = 1e-5
    batch: int = 128
    epochs: int = 150
    steps: int = 0
    """Steps instead of epochs, where not 0."""
    warmup: float = 10 / 150
    """Share of the steps over which the rate rises."""

    def __post_init__(self) -> None:
        need(self.lr > 0, "optimiser.lr must be positive", self.lr)
        need(self.weight_decay >= 0, "optimiser.weight_decay must be at least 0", self.weight_decay)
        need(self.batch >= 2, "optimiser.batch must be at least 2, the loss compares clips", self.batch)
        need(self.epochs >= 1, "optimiser.epochs must be at least 1", self.epochs)
        need(self.steps >= 0, "optimiser.steps must be at least 0", self.steps)
        need(0 <= self.warmup < 1, "optimiser.warmup must be in [0, 1)", self.warmup)

    def total_steps(self, clips: int) -> int:
        """Steps of the whole run; an epoch leaves out the clips that do not fill a batch."""
        return self.steps or self.epochs * (clips // self.batch)


@dataclass(frozen=True)
class PretrainConfig:
    """One pretraining run of one encoder."""

    data: DataConfig = field(default_factory=DataConfig)
    views: ViewConfig = field(default_factory=ViewConfig)
    masks: MaskConfig = field(default_factory=MaskConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    projector: ProjectorConfig = field(default_factory=ProjectorConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    seed: int = 0
    device: str = "cpu"
    bfloat16: bool = False
    """Autocast the encoder and the projector to bfloat16; the loss and the weights stay float32."""
    cuda_graph: bool = False
    """Replay each step as one CUDA graph; needs device cuda."""
    recompute: bool = field(default=False, metadata=LATER)
    """Keep less of the encoder for the backward and compute it again there: less memory, more time, the same result."""
    deterministic: bool = field(default=False, metadata=LATER)
    """Take only algorithms that give the same bits in every run; on the CPU they do so anyway."""
    calibrate: bool = False
    """At the end, replace the running statistics of batch norms by those of whole training clips."""
    log_every: int = 20
    """Steps between two lines of metrics.jsonl."""
    checkpoint_every: int = 500
    """Steps between two checkpoints; the last step is always one."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too."""

    def __post_init__(self) -> None:
        need(0 <= self.seed < 2**63, "seed must be in [0, 2^63)", self.seed)
        need(self.log_every >= 1, "log_every must be at least 1", self.log_every)
        need(self.checkpoint_every >= 1, "checkpoint_every must be at least 1", self.checkpoint_every)
        need(not self.cuda_graph or self.device.startswith("cuda"), "cuda_graph needs a cuda device", self.device)
        need(
            not self.cuda_graph or self.masks.joint_mode != "tokens",
            "cuda_graph needs masks that the device draws: masks.joint_mode fixed or deterministic",
            self.masks.joint_mode,
        )
        need(
            not self.cuda_graph or not self.recompute,
            "recompute must be off with cuda_graph: it reads the state of the GPU's random numbers, which a graph that "
            "is recorded does not allow",
            "on",
        )

    def check_fits(self, skeleton: Skeleton, clips: Sequence[int]) -> None:
        """The rules between the run and the shape of its training clips, (N, C, T, V, M).

        Raises:
            ValueError: clips of another shape, more joints or frames to drop than there are, a batch larger than the
                set, a flip that the skeleton does not know.
        """
        masks, frames = self.masks, self.data.frames
        shape = (self.encoder.in_channels, frames, skeleton.num_joints)
        need(
            len(clips) == 5 and tuple(clips[1:4]) == shape,
            f"clips must be (N, {shape[0]}, {shape[1]}, {shape[2]}, M)",
            f"shape {tuple(clips)}",
        )
        need(
            masks.joints < skeleton.num_joints,
            f"masks.joints must be less than the {skeleton.num_joints} joints of {skeleton.name}",
            masks.joints,
        )
        need(
            masks.frames + masks.extra_frames < frames,
            f"masks.frames + masks.extra_frames must be less than the {frames} frames of a clip",
            f"{masks.frames} + {masks.extra_frames}",
        )
        need(
            self.optimiser.batch <= clips[0],
            f"optimiser.batch must be at most the {clips[0]} training clips",
            self.optimiser.batch,
        )
        need(
            not self.views.flip or skeleton.flip_joints is not None,
            f"views.flip must be 0: the skeleton {skeleton.name} does not say which joints mirror which",
            self.views.flip,
        )


def with_masks(config: PretrainConfig, name: str) -> PretrainConfig:
    """The run with the masks of ``e1``, ``e2`` or ``pstl``; how many joints and frames are dropped stays.

    >>> with_masks(PretrainConfig(), "e2").masks.motion
    'high'
    """
    need(name in MASKS, f"masks must be one of {', '.join(MASKS)}", repr(name))
    wanted = MASKS[name]
    return replace(config, masks=replace(config.masks, degree=wanted.degree, motion=wanted.motion))


_CPU = PretrainConfig(
    data=DataConfig(frames=32, face="hips", scale=True),
    views=ViewConfig(shear=0.5, flip=0.0, per_clip=True),
    masks=MaskConfig(joints=4, frames=6, extra_frames=6),
    encoder=EncoderConfig(channels=(32, 64, 128), strides=(2, 2, 2), dropout=0.0, segments=4, input_gain=1.2),
    projector=ProjectorConfig(width=512, lambd=5e-3),
    optimiser=OptimiserConfig(lr=1e-3, batch=64, steps=800, warmup=0.05),
    bfloat16=True,
    calibrate=True,
)

PRESETS = {
    "asma": PretrainConfig(),
    "pstl": PretrainConfig(masks=MaskConfig(degree="high", motion="high", joint_mode="tokens")),
    "cpu": _CPU,
    "demo": replace(_CPU, optimiser=replace(_CPU.optimiser, steps=300)),
}
"""asma: the paper's settings. pstl: PSTL's masks with them. cpu: learns on small sets on a few cores. demo: minutes."""


def preset(name: str) -> PretrainConfig:
    """A preset by name.

    >>> preset("pstl").masks.joint_mode
    'tokens'
    """
    need(name in PRESETS, f"preset must be one of {', '.join(PRESETS)}", repr(name))
    return PRESETS[name]
