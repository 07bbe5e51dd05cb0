"""Actions as joint angles over time, and the forward kinematics that turns them into joints.

Axes of the body: x to its right, y up, z to its back; metres.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FRAMES_PER_SECOND = 30
LONGEST = 90
PERSONAL, OCCASIONAL = 9.0, 6.0
"""Degrees (standard deviation) by which a person, and one of their performances, miss the target angle of an arm."""
LEG_SHARE = 0.4
"""Legs miss less than arms do, by this factor: they carry the body."""
NEAR, FAR, BOTH = slice(0, 1), slice(1, 2), slice(0, 2)

ARM_ANGLES = ("lift", "out", "twist", "elbow")
LIMB_ANGLES = (*ARM_ANGLES, "hip", "spread", "knee", "free")
"""Of an arm: lift from hanging, the plane it is lifted in (0 forward, 90 sideways), inward twist, elbow flexion.
Of a leg: thigh forward from the vertical, thigh sideways, knee flexion, and how far the foot is off its duty of
standing flat (0 carries the body, 1 hangs from the shank). Degrees, but for the last."""
TRUNK_ANGLES = ("bend", "lean", "turn", "nod", "look", "fly")
"""Forward bend, lean and turn towards the acting side, head nod, head turn (degrees), height off the floor (metres)."""

BONES: tuple[tuple[int, int, str, tuple[float, float, float]], ...] = (
    (1, 0, "loin", (0, 0.27, 0)),
    (20, 1, "chest", (0, 0.22, 0)),
    (2, 20, "neck", (0, 0.07, 0)),
    (3, 2, "head", (0, 0.14, -0.02)),
    (4, 20, "chest", (-0.17, -0.04, 0)),
    (8, 20, "chest", (0.17, -0.04, 0)),
    (5, 4, "left upper arm", (0, -0.27, 0)),
    (9, 8, "right upper arm", (0, -0.27, 0)),
    (6, 5, "left forearm", (0, -0.25, 0)),
    (10, 9, "right forearm", (0, -0.25, 0)),
    (7, 6, "left hand", (0, -0.08, 0)),
    (11, 10, "right hand", (0, -0.08, 0)),
    (21, 7, "left hand", (0, -0.08, 0)),
    (23, 11, "right hand", (0, -0.08, 0)),
    (22, 7, "left hand", (0, -0.03, -0.05)),
    (24, 11, "right hand", (0, -0.03, -0.05)),
    (12, 0, "pelvis", (-0.09, -0.05, 0)),
    (16, 0, "pelvis", (0.09, -0.05, 0)),
    (13, 12, "left thigh", (0, -0.42, 0)),
    (17, 16, "right thigh", (0, -0.42, 0)),
    (14, 13, "left shank", (0, -0.40, 0)),
    (18, 17, "right shank", (0, -0.40, 0)),
    (15, 14, "left foot", (0, -0.05, -0.13)),
    (19, 18, "right foot", (0, -0.05, -0.13)),
)
"""Joint, the joint it hangs from, the segment whose rotation moves it, and the offset of an average adult at rest."""


class Performances:
    """Joint angles of B performances of one action over T frames, all at rest until an action moves them.

    B is people times `repeats`, all performances of a person in a row. `limbs` is (2, 8, B, T), side 0 being the one
    that acts, and `trunk` is (6, B, T); `progress` (B, T) runs from 0 to 1 over the part of a clip in which something
    happens, `seconds` (1, T) is the time. `sign` (B, 1) is +1 where the acting side is the right one.
    """

    def __init__(
        self, rng: np.random.Generator, lengths: np.ndarray, habits: dict[str, np.ndarray], repeats: int
    ) -> None:
        self.rng, self.repeats = rng, repeats
        count, frames = len(lengths), LONGEST
        self.count = count
        self.seconds = np.arange(frames)[None] / FRAMES_PER_SECOND
        start, stop = rng.uniform(0, 0.2, (count, 1)), rng.uniform(0.8, 1, (count, 1))
        passed = np.arange(frames)[None] / (lengths[:, None] - 1)
        self.progress = np.clip((passed - start) / (stop - start), 0, 1) ** rng.uniform(0.75, 1.3, (count, 1))
        self.sign = rng.choice([-1.0, 1.0], (count, 1))
        self.vigour = habits["vigour"][:, None] * rng.lognormal(0, 0.12, (count, 1))
        self.tempo = habits["tempo"][:, None] * rng.lognormal(0, 0.1, (count, 1))
        self.limbs = np.zeros((2, len(LIMB_ANGLES), count, frames))
        self.trunk = np.zeros((len(TRUNK_ANGLES), count, frames))
        for name in ("lift", "out", "twist", "elbow", "spread", "knee"):
            self.limbs[:, LIMB_ANGLES.index(name)] += habits[name][:, None]
        self.limbs[:, LIMB_ANGLES.index("hip")] += habits["knee"][:, None] / 2
        for name in ("bend", "nod"):
            self.trunk[TRUNK_ANGLES.index(name)] += habits[name][:, None]
        self._idle()

    def _idle(self) -> None:
        """What a body does beside its action: an arm put somewhere, a gesture of the other arm, small movements."""
        for side in (NEAR, FAR):
            where = self.rng.integers(0, 5, (self.count, 1))
            self.move(side, where == 1, lift=25, out=5, twist=55, elbow=85)
            self.move(side, where == 2, lift=38, out=95, twist=45, elbow=95)
        begin = self.rng.uniform(0, 0.6, (self.count, 1))
        rise = np.clip((self.progress - begin) / 0.2, 0, 1) * np.clip((begin + 0.45 - self.progress) / 0.2, 0, 1)
        gesture = self.rng.random((self.count, 1)) < 0.4
        lift, out, twist, elbow = self.draw(15, 110), self.draw(0, 90), self.draw(-40, 60), self.draw(10, 130)
        self.move(FAR, gesture * rise, lift=lift, out=out, twist=twist, elbow=elbow)
        for angles, size in ((self.limbs[:, :4], 4.0), (self.trunk[:5], 2.5)):
            for _ in range(2):
                shape = angles.shape[:-1] + (1,)
                rate, phase = self.rng.uniform(0.15, 0.8, shape), self.rng.uniform(0, 2 * np.pi, shape)
                angles += self.rng.normal(0, size, shape) * np.sin(2 * np.pi * rate * self.seconds + phase)

    def move(self, side: slice, weight: np.ndarray, **targets: float | np.ndarray) -> None:
        """Blend limb angles of a side towards targets by a weight in [0, 1] (B, T), each person in an own way."""
        for name, target in targets.items():
            channel = LIMB_ANGLES.index(name)
            if name != "free":
                share = 1.0 if name in ARM_ANGLES else LEG_SHARE
                own = self.rng.normal(0, share * PERSONAL, (self.count // self.repeats, 1))
                once = self.rng.normal(0, share * OCCASIONAL, (self.count, 1))
                target = target + np.repeat(own, self.repeats, 0) + once
            self.limbs[side, channel] += weight * (target - self.limbs[side, channel])

    def add(self, side: slice, **amounts: np.ndarray) -> None:
        """Add to limb angles of a side."""
        for name, amount in amounts.items():
            self.limbs[side, LIMB_ANGLES.index(name)] += amount

    def sway(self, **amounts: np.ndarray) -> None:
        """Add to trunk angles."""
        for name, amount in amounts.items():
            self.trunk[TRUNK_ANGLES.index(name)] += amount

    def draw(self, low: float, high: float) -> np.ndarray:
        """One number a performance, (B, 1)."""
        return self.rng.uniform(low, high, (self.count, 1))

    def ramp(self, begin: float, end: float) -> np.ndarray:
        """0 before `begin`, 1 after `end` of the progress, smooth between; the edges differ a little by performance."""
        shift = self.draw(-0.04, 0.04)
        x = np.clip((self.progress - begin - shift) / (end - begin), 0, 1)
        return x * x * (3 - 2 * x)

    def pulse(self, rise: float, top: float, fall: float, end: float) -> np.ndarray:
        """0, up to 1 between `rise` and `top`, down to 0 between `fall` and `end`."""
        return self.ramp(rise, top) - self.ramp(fall, end)

    def cycle(self, low: float, high: float) -> np.ndarray:
        """A phase in radians that advances at a rate drawn in [low, high] hertz, times the person's tempo."""
        rate = self.draw(low, high) * self.tempo
        return 2 * np.pi * (rate * self.seconds + self.draw(0, 1))


def _sit_down(act: Performances) -> None:
    down = act.ramp(0.08, 0.9)
    act.move(BOTH, down, hip=84, knee=86)
    act.move(BOTH, down * act.draw(0, 1), lift=28, elbow=50)
    act.sway(bend=act.draw(20, 42) * act.pulse(0.04, 0.45, 0.55, 0.96))


def _stand_up(act: Performances) -> None:
    act.progress = 1 - act.progress
    _sit_down(act)


def _wave(act: Performances, sign: float) -> None:
    act.sign[:] = sign
    up = act.pulse(0.02, 0.25, 0.8, 1)
    act.move(NEAR, up, lift=act.draw(70, 125), out=65, twist=-80, elbow=act.draw(50, 110))
    swing = up * act.vigour * act.draw(14, 32) * np.sin(act.cycle(1.2, 2.2))
    act.add(NEAR, twist=swing * act.draw(0, 1), elbow=swing)
    act.sway(lean=-3 * up)


def _wave_right(act: Performances) -> None:
    _wave(act, 1.0)


def _wave_left(act: Performances) -> None:
    _wave(act, -1.0)


def _step_in_place(act: Performances, phase: np.ndarray, height: np.ndarray, elbow: np.ndarray) -> None:
    go = act.pulse(-0.1, 0.1, 0.92, 1.08)
    act.move(BOTH, go, elbow=elbow, lift=4, out=20, twist=8)
    for side, beat in ((NEAR, np.sin(phase)), (FAR, -np.sin(phase))):
        raised = go * np.clip(beat, 0, None) * act.vigour
        act.add(side, hip=raised * height, knee=raised * height * 1.7, free=np.clip(3 * raised, 0, 1))
        act.add(side, lift=-go * beat * act.vigour * act.draw(8, 26))
    act.sway(turn=go * 4 * np.sin(phase))


def _walk(act: Performances) -> None:
    _step_in_place(act, act.cycle(0.75, 1.1), act.draw(22, 44), act.draw(12, 60))


def _jog(act: Performances) -> None:
    phase = act.cycle(1.2, 1.7)
    _step_in_place(act, phase, act.draw(30, 55), act.draw(30, 95))
    act.sway(fly=act.draw(0.01, 0.05) * np.abs(np.sin(phase)) * act.pulse(-0.1, 0.1, 0.92, 1.08))


def _punch(act: Performances) -> None:
    guard = act.pulse(0, 0.2, 0.85, 1)
    act.move(BOTH, guard * act.draw(0.5, 1), lift=28, out=15, twist=20, elbow=115)
    for begin in (0.2, 0.52):
        hit = act.pulse(begin, begin + 0.13, begin + 0.15, begin + 0.3)
        hit = hit if begin < 0.5 else hit * (act.rng.random((act.count, 1)) < 0.6)
        act.move(NEAR, hit, lift=82, out=0, twist=25, elbow=10)
        act.sway(turn=-22 * hit * act.vigour)
    act.move(FAR, guard, hip=14, knee=12)
    act.move(NEAR, guard, hip=-10, knee=12)


def _throw(act: Performances) -> None:
    back, forth = act.pulse(0.05, 0.4, 0.45, 0.62), act.pulse(0.45, 0.62, 0.7, 0.98)
    act.move(NEAR, back, lift=98, out=85, twist=-75, elbow=90)
    act.move(NEAR, forth, lift=70, out=5, twist=10, elbow=15)
    act.sway(turn=act.vigour * (24 * back - 26 * forth), bend=-6 * back + 16 * forth)
    stride = act.pulse(0.05, 0.4, 0.7, 0.98)
    act.move(FAR, stride, hip=18, knee=14)
    act.move(NEAR, stride, hip=-12, knee=12)


def _kick(act: Performances) -> None:
    chamber, extend = act.pulse(0.1, 0.42, 0.62, 0.92), act.pulse(0.36, 0.52, 0.55, 0.7)
    act.move(NEAR, chamber, hip=58, knee=85, free=1)
    act.move(NEAR, extend, hip=70 * act.vigour, knee=14)
    act.move(BOTH, chamber, lift=25, out=65, elbow=35)
    act.sway(bend=-9 * extend, lean=-4 * chamber)


def _drink(act: Performances) -> None:
    up = act.pulse(0.05, 0.38, 0.72, 0.98)
    act.move(NEAR, up, lift=66, out=4, twist=33, elbow=126)
    act.sway(nod=-act.draw(4, 20) * act.pulse(0.3, 0.5, 0.62, 0.8), bend=-3 * up)


def _salute(act: Performances) -> None:
    up = act.pulse(0.05, 0.32, 0.75, 0.98)
    act.move(NEAR, up, lift=102, out=60, twist=-44, elbow=121)


def _clap(act: Performances) -> None:
    up = act.pulse(0, 0.2, 0.82, 1)
    act.move(BOTH, up, lift=act.draw(28, 60), out=12, twist=32, elbow=72)
    act.add(BOTH, out=up * act.vigour * act.draw(9, 22) * (0.6 + np.sin(act.cycle(1.6, 2.6))))


def _circle(act: Performances, direction: float) -> None:
    up = act.pulse(0, 0.2, 0.85, 1)
    phase = direction * act.sign * act.cycle(0.6, 1.0)
    act.move(NEAR, up, lift=72, out=22, twist=5, elbow=act.draw(20, 55))
    size = up * act.vigour * act.draw(15, 27)
    act.add(NEAR, lift=size * np.cos(phase), out=size * np.sin(phase))


def _circle_clockwise(act: Performances) -> None:
    _circle(act, 1.0)


def _circle_back(act: Performances) -> None:
    _circle(act, -1.0)


def _squat(act: Performances) -> None:
    down = act.pulse(0.05, 0.45, 0.55, 0.95) * act.draw(0.6, 1)
    act.move(BOTH, down, hip=94, knee=116)
    act.move(BOTH, down * act.draw(0, 1), lift=70, elbow=15, out=15)
    act.sway(bend=32 * down)


def _jump(act: Performances) -> None:
    crouch = act.pulse(0.05, 0.32, 0.36, 0.46) + 0.7 * act.pulse(0.62, 0.72, 0.76, 0.98)
    act.move(BOTH, crouch, hip=52, knee=78)
    act.sway(bend=24 * crouch)
    air = np.clip((act.progress - 0.44) / 0.2, 0, 1)
    act.sway(fly=act.draw(0.14, 0.3) * act.vigour * 4 * air * (1 - air))
    act.add(BOTH, lift=-25 * act.pulse(0.1, 0.3, 0.34, 0.46) + 70 * act.pulse(0.36, 0.5, 0.55, 0.8))


def _bow(act: Performances) -> None:
    down = act.pulse(0.08, 0.42, 0.58, 0.94)
    act.sway(bend=act.draw(35, 70) * down, nod=8 * down)
    act.move(BOTH, down, hip=8)


def _raise_arms(act: Performances) -> None:
    up = act.pulse(0.05, 0.4, 0.65, 0.98)
    act.move(BOTH, up, lift=act.draw(120, 165), out=act.draw(10, 85), twist=0, elbow=15)


ACTIONS: dict[str, Callable[[Performances], None]] = {
    "sit down": _sit_down,
    "stand up": _stand_up,
    "wave right hand": _wave_right,
    "wave left hand": _wave_left,
    "walk in place": _walk,
    "jog in place": _jog,
    "drink": _drink,
    "salute": _salute,
    "punch": _punch,
    "throw": _throw,
    "circle clockwise": _circle_clockwise,
    "circle anticlockwise": _circle_back,
    "kick": _kick,
    "squat": _squat,
    "jump": _jump,
    "clap": _clap,
    "bow": _bow,
    "raise both arms": _raise_arms,
}
"""The actions in class order. Each writes its angles into the performances it is given."""


def rotation(axis: int, degrees: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) about x, y or z."""
    angle = np.radians(degrees)
    out = np.zeros(angle.shape + (3, 3))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    out[..., axis, axis] = 1
    out[..., first, first] = out[..., second, second] = np.cos(angle)
    out[..., second, first] = np.sin(angle)
    out[..., first, second] = -out[..., second, first]
    return out


def forward_kinematics(act: Performances, bones: np.ndarray) -> np.ndarray:
    """Joints (B, T, 25, 3) of bodies with bone scales `bones` (B, 25), feet on the floor y = 0, facing -z."""
    sides = np.where(act.sign > 0, act.limbs[::-1], act.limbs)
    bend, lean, turn, nod, look, fly = act.trunk
    lean, turn = -act.sign * lean, -act.sign * turn
    segments = {"pelvis": rotation(1, 0.3 * turn) @ rotation(0, -0.4 * bend)}
    share = rotation(1, 0.35 * turn) @ rotation(2, 0.5 * lean) @ rotation(0, -0.3 * bend)
    segments["loin"] = segments["pelvis"] @ share
    segments["chest"] = segments["loin"] @ share
    segments["neck"] = segments["chest"] @ rotation(0, -0.5 * nod)
    segments["head"] = segments["neck"] @ rotation(1, look) @ rotation(0, -0.5 * nod)
    carries = []
    for side, sign, angles in zip(("left", "right"), (-1, 1), sides, strict=True):
        lift, out, twist, elbow, hip, spread, knee, free = angles
        # An arm swings back in the plane of walking whatever plane it would be lifted in.
        out = np.where(lift < 0, 0, out)
        elbow, knee = np.clip(elbow, 3, 145), np.clip(knee, 2, 140)
        swing = rotation(1, -sign * out) @ rotation(0, lift) @ rotation(1, sign * (out + twist))
        segments[f"{side} upper arm"] = segments["chest"] @ swing
        segments[f"{side} forearm"] = segments[f"{side} upper arm"] @ rotation(0, elbow)
        segments[f"{side} hand"] = segments[f"{side} forearm"] @ rotation(0, np.full_like(elbow, 8))
        segments[f"{side} thigh"] = rotation(2, sign * spread) @ rotation(0, hip)
        segments[f"{side} shank"] = segments[f"{side} thigh"] @ rotation(0, -knee)
        segments[f"{side} foot"] = rotation(1, np.full_like(hip, -8.0 * sign)) @ rotation(0, free * (hip - knee))
        carries.append(1.001 - free)
    joints = np.zeros((act.count, LONGEST, 25, 3))
    for joint, parent, segment, offset in BONES:
        bone = np.array(offset) * bones[:, joint, None]
        joints[:, :, joint] = joints[:, :, parent] + np.einsum("btij,bj->bti", segments[segment], bone)
    # Bodies move over feet that stay: shift each frame so that the feet which carry are where they are on average.
    support = np.stack(carries, -1)[..., None] / sum(carries)[..., None, None]
    home = joints[:, :, [14, 18]].mean(1, keepdims=True) * (1, 0, 0)
    shift = ((joints[:, :, [14, 18]] - home) * support).sum(2)
    lowest = np.minimum(joints[:, :, [14, 18], 1] - 0.07, joints[:, :, [15, 19], 1] - 0.02).min(-1)
    shift[..., 1] = lowest - fly
    return joints - shift[:, :, None]
