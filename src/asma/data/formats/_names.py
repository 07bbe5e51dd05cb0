"""What a clip's name tells in the data sets that speak through names, and what their classes are called."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from asma.data.formats._ntu_sets import CLASSES as NTU_CLASSES
from asma.data.source import UNKNOWN

__all__ = ["PKU_CLASSES", "UCLA_CLASSES", "UTD_CLASSES", "Told", "class_names", "told_by_name"]


MOST_CLASSES = 10_000


class Told(NamedTuple):
    """Numbers of a name, UNKNOWN where it does not say; `action` counts from 1, as the names do."""

    subject: int = UNKNOWN
    view: int = UNKNOWN
    action: int = UNKNOWN


PATTERNS = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        r"S\d{3}C(?P<view>\d{3})P(?P<subject>\d{3})R\d{3}A(?P<action>\d{3})",  # NTU RGB+D
        r"a(?P<action>\d{1,3})_s(?P<subject>\d{1,3})_t\d{1,3}",  # UTD-MHAD
        r"a\d\d_s(?P<subject>\d\d)_e\d\d_v(?P<view>\d\d)",  # NW-UCLA, whose a is not the class
        r"(A\d\dN(?P<subject>\d\d)|\d{4})-(?P<letter>[LMR])(_\d+)?",  # PKU-MMD II and I: L, M, R are cameras 1, 2, 3
        r"(F\d{3}|A\d{3}N(?P<subject>\d{3}))V(?P<view>\d{3})C(?P<action>\d{3})L\d{3}",  # PKU-MMD as AimCLR cuts it
    )
)


def told_by_name(name: str) -> Told:
    """Subject, view and action of a name of NTU RGB+D, UTD-MHAD, NW-UCLA or PKU-MMD; nothing of any other.

    >>> told_by_name("S001C002P003R002A013"), told_by_name("a27_s8_t2"), told_by_name("0002-R")
    (Told(subject=3, view=2, action=13), Told(subject=8, view=-1, action=27), Told(subject=-1, view=3, action=-1))
    """
    for pattern in PATTERNS:
        if match := pattern.fullmatch(name):
            found = match.groupdict()
            if letter := found.pop("letter", None):
                found["view"] = str("LMR".index(letter) + 1)
            return Told(**{field: int(number) for field, number in found.items() if number is not None})
    return Told()


def class_names(labels: Iterable[int], names: Iterable[str] = ()) -> tuple[str, ...]:
    """Names of the classes that labels are of: PKU-MMD's if there are 51, NTU RGB+D's if there are 60 or 120 or a name
    is NTU's, else A001, A002 and so on. Labels from 10,000 on make no class.

    Args:
        names: of some clips of the set, to tell the data set by.

    >>> class_names([1]), class_names([50])[:2]
    (('A001', 'A002'), ('bow', 'brushing hair'))
    """
    count = max((label + 1 for label in labels if label < MOST_CLASSES), default=0)
    if count == len(PKU_CLASSES):
        return PKU_CLASSES
    numbered = tuple(f"A{number:03}" for number in range(1, count + 1))
    if count not in (60, 120) and not any(PATTERNS[0].fullmatch(name) for name in names):
        return numbered
    return NTU_CLASSES[:count] + numbered[len(NTU_CLASSES) :]


# Actions.xlsx of PKU-MMD: Liu et al., PKU-MMD: A Large Scale Benchmark for Continuous Multi-Modal Human Action
# Understanding, 2017. Part II has 41 of them under the same numbers.
PKU_CLASSES = (
    "bow", "brushing hair", "brushing teeth", "check time (from watch)", "cheer up", "clapping",
    "cross hands in front (say stop)", "drink water", "drop", "eat meal/snack", "falling",
    "giving something to other person", "hand waving", "handshaking", "hopping (one foot jumping)",
    "hugging other person", "jump up", "kicking other person", "kicking something", "make a phone call/answer phone",
    "pat on back of other person", "pickup", "playing with phone/tablet", "point finger at the other person",
    "pointing to something with finger", "punching/slapping other person", "pushing other person", "put on a hat/cap",
    "put something inside pocket", "reading", "rub two hands together", "salute", "sitting down", "standing up",
    "take off a hat/cap", "take off glasses", "take off jacket", "take out something from pocket", "taking a selfie",
    "tear up paper", "throw", "touch back (backache)", "touch chest (stomachache/heart pain)", "touch head (headache)",
    "touch neck (neckache)", "typing on a keyboard", "use a fan (with hand or paper)/feeling warm", "wear jacket",
    "wear on glasses", "wipe face", "writing",
)  # fmt: skip
# Wang, Nie, Xia, Wu, Zhu: Cross-View Action Modeling, Learning, and Recognition, CVPR 2014.
UCLA_CLASSES = (
    "pick up with one hand", "pick up with two hands", "drop trash", "walk around", "sit down", "stand up", "donning",
    "doffing", "throw", "carry",
)  # fmt: skip
# Chen, Jafari, Kehtarnavaz: UTD-MHAD, ICIP 2015.
UTD_CLASSES = (
    "right arm swipe to the left", "right arm swipe to the right", "right hand wave", "two hand front clap",
    "right arm throw", "cross arms in the chest", "basketball shoot", "right hand draw x",
    "right hand draw circle (clockwise)", "right hand draw circle (counter clockwise)", "draw triangle",
    "bowling (right hand)", "front boxing", "baseball swing from right", "tennis right hand forehand swing",
    "arm curl (two arms)", "tennis serve", "two hand push", "right hand knock on door", "right hand catch an object",
    "right hand pick up and throw", "jogging in place", "walking in place", "sit to stand", "stand to sit",
    "forward lunge (left foot forward)", "squat (two arms stretch out)",
)  # fmt: skip
