"""Facts about NTU RGB+D and NTU RGB+D 120: classes, splits, and the clips that their authors say to leave out.

Shahroudy, Liu, Ng, Wang: NTU RGB+D, CVPR 2016. Liu, Shahroudy, Perez, Wang, Duan, Kot: NTU RGB+D 120, TPAMI 2019. Names
of classes and the list of bad clips: https://github.com/shahroudy/NTURGB-D at ac2ebc8, README.md and
Matlab/NTU_RGBD120_samples_with_missing_skeletons.txt. Training subjects of NTU RGB+D 120: data/ntu120 of
https://github.com/Uason-Chen/CTR-GCN and, the same, tools/data of https://github.com/kennymckormick/pyskl.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["CLASSES", "Name", "known_bad", "parse_name", "splits_of"]

CLASSES = (
    "drink water", "eat meal/snack", "brushing teeth", "brushing hair", "drop", "pickup", "throw", "sitting down",
    "standing up (from sitting position)", "clapping", "reading", "writing", "tear up paper", "wear jacket",
    "take off jacket", "wear a shoe", "take off a shoe", "wear on glasses", "take off glasses", "put on a hat/cap",
    "take off a hat/cap", "cheer up", "hand waving", "kicking something", "reach into pocket",
    "hopping (one foot jumping)", "jump up", "make a phone call/answer phone", "playing with phone/tablet",
    "typing on a keyboard", "pointing to something with finger", "taking a selfie", "check time (from watch)",
    "rub two hands together", "nod head/bow", "shake head", "wipe face", "salute", "put the palms together",
    "cross hands in front (say stop)", "sneeze/cough", "staggering", "falling", "touch head (headache)",
    "touch chest (stomachache/heart pain)", "touch back (backache)", "touch neck (neckache)",
    "nausea or vomiting condition", "use a fan (with hand or paper)/feeling warm", "punching/slapping other person",
    "kicking other person", "pushing other person", "pat on back of other person", "point finger at the other person",
    "hugging other person", "giving something to other person", "touch other person's pocket", "handshaking",
    "walking towards each other", "walking apart from each other", "put on headphone", "take off headphone",
    "shoot at the basket", "bounce ball", "tennis bat swing", "juggling table tennis balls", "hush (quite)",
    "flick hair", "thumb up", "thumb down", "make ok sign", "make victory sign", "staple book", "counting money",
    "cutting nails", "cutting paper (using scissors)", "snapping fingers", "open bottle", "sniff (smell)", "squat down",
    "toss a coin", "fold paper", "ball up paper", "play magic cube", "apply cream on face", "apply cream on hand back",
    "put on bag", "take off bag", "put something into a bag", "take something out of a bag", "open a box",
    "move heavy objects", "shake fist", "throw up cap/hat", "hands up (both hands)", "cross arms", "arm circles",
    "arm swings", "running on the spot", "butt kicks (kick backward)", "cross toe touch", "side kick", "yawn",
    "stretch oneself", "blow nose", "hit other person with something", "wield knife towards other person",
    "knock over other person (hit with body)", "grab other person's stuff", "shoot at other person with a gun",
    "step on foot", "high-five", "cheers and drink", "carry something with other person",
    "take a photo of other person", "follow other person", "whisper in other person's ear",
    "exchange things with other person", "support somebody with hand",
    "finger-guessing game (playing rock-paper-scissors)",
)  # fmt: skip
"""What A001 to A120 are called; NTU RGB+D has the first 60."""

TRAINING_SUBJECTS = frozenset({
    1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38, 45, 46, 47, 49, 50, 52, 53, 54, 55, 56,
    57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94, 95, 97, 98, 100, 103,
})  # fmt: skip
"""Of cross-subject; NTU RGB+D has subjects up to 40, and the same 20 of them."""
TRAINING_CAMERAS = frozenset({2, 3})
"""Of cross-view, NTU RGB+D. NTU RGB+D 120 has cross-setup instead, whose training setups are the even ones."""


class Name(NamedTuple):
    """The numbers of a clip's name, SsssCcccPpppRrrrAaaa."""

    setup: int
    camera: int
    performer: int
    replication: int
    action: int

    def __str__(self) -> str:
        return "S{:03}C{:03}P{:03}R{:03}A{:03}".format(*self)


def parse_name(name: str) -> Name | None:
    """The numbers of a name, or None if it is none of NTU's.

    >>> parse_name("S001C002P003R002A013")
    Name(setup=1, camera=2, performer=3, replication=2, action=13)
    """
    found = re.fullmatch(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})", name, re.ASCII)
    return Name(*map(int, found.groups())) if found else None


def splits_of(name: Name, classes: int) -> tuple[str, ...]:
    """The splits that a clip of a set of 60 or 120 classes is in; none for other sets.

    >>> splits_of(parse_name("S001C002P003R002A013"), 60), splits_of(parse_name("S018C001P045R001A061"), 120)
    (('xsub_test', 'xview_train'), ('xsub_train', 'xset_train'))
    """
    if classes not in (60, 120):
        return ()
    other = ("xview", name.camera in TRAINING_CAMERAS) if classes == 60 else ("xset", name.setup % 2 == 0)
    sides = (("xsub", name.performer in TRAINING_SUBJECTS), other)
    return tuple(f"{split}_{'train' if train else 'test'}" for split, train in sides)


def known_bad(name: str) -> bool:
    """Whether NTU's authors list a clip as one with a missing or incomplete skeleton: 302 of 60 classes, 535 of 120.

    >>> known_bad("S001C002P005R002A008"), known_bad("S001C001P001R001A001")
    (True, False)
    """
    return name in _bad_names()


@functools.cache
def _bad_names() -> frozenset[str]:
    return frozenset(map(str, _spelled_out()))


def _spelled_out() -> Iterator[Name]:
    setup = camera = 0
    for word in _BAD.split():
        group, colon, actions = word.partition(":")
        first, second = map(int, re.findall(r"\d+", group))
        if not colon:
            setup, camera = first, second
            continue
        for span in actions.split(","):
            begin, _, end = span.partition("-")
            for action in range(int(begin), int(end or begin) + 1):
                yield Name(setup, camera, first, second, action)


# Setup and camera, then of each performer and replication the actions.
_BAD = """
S1C2 P5R2:8 P6R1:8 S1C3 P2R1:55 P2R2:12 P5R2:4-6 P6R2:8 S2C2 P11R2:30 S2C3 P8R1:20 P10R2:10 P11R2:7,11 P14R2:7 S3C1
P19R1:55 S3C2 P2R2:55 P18R2:55 S3C3 P2R1:55 P16R1:55 P18R2:24 S4C2 P3R1:13 P8R1:9 P20R1:3-4,12,20-21,36 S5C2
P4R1:1,3 P10R1:16-17,48-49 P16R1:9-10 P18R1:3,28-29 S5C3 P16R2:9 P18R2:13 P21R2:57 S6C1 P1R2:55 S6C2 P7R1:5-6
P16R1:43,51-52 P22R1:12 P23R1:20-23 P24R1:18-19 S6C3 P1R2:13 P7R2:9-10,25 P16R1:60 P17R1:55 P17R2:13-15 P22R2:13
S7C1 P18R2:50 P25R2:51 P28R1:50-52 S7C2 P8R2:8 P15R2:55 P26R1:8-12,50 P27R1:11,13 P28R2:55 S7C3 P7R1:2,4 P19R1:60
P27R2:1-13 S8C2 P1R1:9-10,14-16,18-19 P8R2:59 P25R1:60 P29R1:4 P31R1:5-6 P32R1:18 P34R1:18-19 P35R1:59 P35R2:2,5
S8C3 P7R1:9,16-23,25-26,28-29 P7R2:3 P8R2:50 P25R2:2,11-12,16,20,22-23,30-33,49,60 P31R1:1 P31R2:4,14-17 P32R2:13
P33R2:1,11-12 P34R2:1,12,22-24,44-45 P35R2:16-21 S9C2 P7R1:1,3,14 P8R1:14 P15R2:50 P16R1:2 P17R1:28-29 S9C3 P17R2:30
P25R2:54 S10C1 P7R2:20 S10C2 P16R2:55 P17R1:5,18-19 P19R1:1 P25R1:12 S10C3 P7R2:43 P8R2:3 P16R1:55 P17R2:55 S11C1
P2R1:8 P18R2:50 S11C2 P8R2:59 P16R2:55 P17R1:20-21 P18R2:55 P27R1:9-10,37 S11C3 P1R1:55 P2R1:55 P8R2:12 P15R1:55
P16R1:55 P19R1:55 P25R1:55 P28R2:55 S12C1 P19R1:60 P19R2:60 S12C2 P15R1:55 P17R2:12 P25R1:60 S12C3 P8R1:57 P15R1:55
P15R2:55 P16R1:55 P17R2:55 P18R1:55,57 P19R2:11-12 P25R1:55 P27R1:55 P27R2:9 P28R1:35 P28R2:55 S13C1 P15R1:54
P17R2:54 P18R1:16 P28R1:40 S13C2 P15R1:54 P17R2:54 P28R1:40 S13C3 P8R2:59 P15R1:54 P17R2:54 P25R2:22 P27R1:55
P28R1:40 S14C1 P27R2:40 S14C2 P15R1:3 P19R1:29 P25R2:59 P27R2:40 P39R1:50 S14C3 P7R2:59 P15R2:55 P19R2:55 P25R1:48
P27R2:40 S15C1 P8R2:40 P16R1:55 P17R1:55 P17R2:55 S15C2 P7R1:59 P8R1:3-4 P8R2:40 P15R1:2 P16R1:1 P16R2:55 S15C3
P8R2:7,11-12,28,40 P25R2:12,17,20-21,30,33-34,36-37,44 S16C1 P19R2:40 P25R1:11-12,60 P40R1:55 P40R2:55 S16C2 P8R1:11
P19R2:40 P25R2:12 S16C3 P8R1:11 P8R2:2-4,6,9 P19R2:40 P39R2:16 S17C1 P16R2:31 S17C2 P7R1:13 P8R1:9 P15R1:42
P16R2:31,55 S17C3 P7R2:13 P8R1:59 P16R2:31 P17R1:55 P20R1:59 S19C1 P46R1:75 S19C2 P42R1:94-102 P49R2:74,79 P51R1:61
S19C3 P46R1:61 P46R2:61-62 S20C2 P41R1:63-64 P44R1:63-64,66,84 P54R1:81 S21C1 P59R1:108 S21C2 P55R1:65,92-93
P57R1:64 P58R1:63-64 P59R1:74-79 S21C3 P57R2:78-79,94 S22C2 P61R1:113 S22C3 P61R2:61-62 P63R2:61-64,78 P64R2:61-62
P65R2:61-62,119 P67R2:64 S23C2 P55R1:114 P55R2:92 P59R1:75 P63R1:75 S23C3 P55R2:93-94 P61R2:61 P64R1:92 S24C1
P63R1:109 S24C2 P62R2:74 P67R1:100-103 S24C3 P62R2:74 P63R2:61-62 S25C1 P55R2:119 S25C3 P56R2:119 P59R2:115 S26C2
P44R1:61-62 P70R1:92 S26C3 P69R2:75 P74R2:61-62 P75R1:117-118 S27C1 P82R1:63 S27C2 P44R2:92 P79R1:61-64 P82R1:92
P84R1:61-62 P86R1:61 S27C3 P41R2:87 P80R2:61 P82R2:61-62 P86R2:61-62 S28C1 P87R1:61 S28C2 P41R1:91 P87R1:61 S28C3
P42R2:64 P46R2:63,66-72,74-75,77,81-84 P48R2:61-62,73 P73R2:73 P87R1:61 P87R2:61-62 S29C1 P43R2:92 P44R2:92 P48R1:73
P89R1:63 S29C2 P41R1:74,84 P44R1:91 P48R1:75,81 P74R1:81,95-96 P80R1:91 P88R1:66 P89R1:65 P90R1:67 S29C3 P8R2:65,67
P41R1:89 P43R1:80,92,105 P43R2:85-86 P44R2:106 P48R1:65 P48R2:73-76,92,94 P51R2:73-86,110 P67R1:98 P74R2:110
P80R2:66 P88R2:78 P89R1:75 P89R2:61-63 P90R2:92,95 S30C2 P91R2:91-105 S30C3 P44R2:65,81,84 S31C2 P42R1:111
P51R1:61-62 P67R1:67-72 P82R1:75 P82R2:117 P97R1:61-62 S31C3 P43R2:74-75 P44R2:94 P82R2:67-73,75-77,84-86 S32C2
P67R1:92 S32C3 P67R2:66-67,75-77
"""
