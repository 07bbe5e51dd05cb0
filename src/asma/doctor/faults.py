"""The faults that the doctor knows: their names, how bad they are, and what to do about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..config import need

__all__ = ["FAULTS", "SEVERITIES", "Fault", "Found", "Limits", "Severity"]

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""error: unfit for training, results would be wrong or training would stop; warning: likely to cost accuracy; note:
worth knowing."""


@dataclass(frozen=True)
class Limits:
    """From where on something is a fault.

    Lengths are in body sizes: the median over a clip's frames of the diagonal of the box around one body, about 1.7 m
    for an adult, so that the unit of the data does not matter. Figures in brackets are the largest that the built-in
    set and UTD-MHAD have, which are taken to be free of that fault.
    """

    bone: float = 0.4
    """A bone may be longer than its median in the clip by that many body sizes (0.25; a noisy hand does that)."""
    bone_of_set: float = 0.25
    """A bone's median in a clip may be longer than its median over all clips by that many body sizes (0.10)."""
    teleport: float = 1.0
    """A joint may move by that many body sizes from one frame to the next (0.66; at 30 frames a second 1 is 50 m/s)."""
    swap: float = 0.2
    """Two persons are swapped if both jump by more than that, in body sizes, and to each other's place."""
    size: float = 5.0
    """A clip's body size may differ by that factor from the median of all clips (1.3, in NW-UCLA 1.9; a wrong unit is
    10 or more)."""
    smallest: float = 0.5
    """Median body size from which on a body with head and feet counts as measured in metres."""
    largest: float = 3.5
    """Median body size up to which it does."""
    frozen: int = 10
    """Frames in a row that may not be all equal (8: so long the built-in set's sensor stalls). In a clip of less than
    twice as many, half of its frames, at least 3."""
    shortest: int = 5
    """Frames that a clip must have: with less there is no motion to speak of."""
    persons: int = 2
    """Persons that the field's models take."""
    balance: float = 10.0
    """The largest class may have that many times the clips of the smallest (1.04, in NW-UCLA 1.3)."""
    mirrored: float = 0.35
    """Cosine between where the feet point and behind, from which on left and right count as exchanged (-0.03, in
    NW-UCLA 0.33, where the camera hardly sees the feet; of UTD-MHAD's clips, mirrored, 95 % are found)."""

    score: float = 0.3
    """Joints of pictures with a lower score are where the estimator guessed; their jumps are no fault of the data."""

    def __post_init__(self) -> None:
        for name in ("bone", "bone_of_set", "teleport", "swap", "smallest", "mirrored"):
            need(getattr(self, name) > 0, f"limits.{name} must be positive", getattr(self, name))
        for name in ("size", "balance", "frozen", "shortest", "persons"):
            need(getattr(self, name) >= 1, f"limits.{name} must be at least 1", getattr(self, name))
        need(self.largest > self.smallest, "limits.largest must be more than limits.smallest", self.largest)


@dataclass(frozen=True)
class Fault:
    """A kind of fault."""

    name: str
    """Stable: scripts may rely on it."""
    severity: Severity
    what: str
    """What is wrong, as a sentence about the clips that have it."""
    advice: str
    """What to do, as a sentence."""
    of: str = "clip"
    """What is counted."""


class Found(NamedTuple):
    """A fault in one clip, and where it is worst or first."""

    fault: str
    text: str
    """What was found there."""
    places: int = 1
    """Frames, or joints of frames, that have it."""
    frame: int | None = None
    persons: tuple[int, ...] = ()
    """Rows of the clip's persons in the order of their numbers."""
    joints: tuple[int, ...] = ()


COUNTED = {
    "missing-file": "file", "unreadable": "entry", "left-out": "entry", "empty-class": "class", "unbalanced": "class",
    "empty-split": "side", "subject-leak": "subject", "subject-shared": "subject", "view-leak": "view", "units": "set",
    "up-axis": "set",
}  # fmt: skip
"""What is counted where it is not clips."""


def _table(*rows: tuple[str, Severity, str, str]) -> dict[str, Fault]:
    return {row[0]: Fault(*row, of=COUNTED.get(row[0], "clip")) for row in rows}


FAULTS = _table(
    # Files
    ("missing-file", "error", "A file that the set names is not there.", "Get it again, or go on without: --fix does."),
    ("unreadable", "error", "A file or a clip in it cannot be read.", "Get it again, or go on without: --fix does."),
    ("left-out", "note", "The reader left something out, as it should.", "Nothing; it is said for completeness."),
    ("known-bad", "warning", "A recording that NTU's authors list as missing or incomplete.",
     "Leave it out, as all published results do: --fix does."),
    # Names
    ("duplicate-name", "error", "Two clips have the same name.", "Rename them: --fix numbers the later ones."),
    # Bodies
    ("no-body", "error", "A clip without a body: there is nothing to learn from.", "Leave it out: --fix does."),
    ("non-finite", "error", "Coordinates are NaN or infinite: one such clip makes the loss NaN.",
     "Leave these frames out: --fix does."),
    ("empty-frames", "warning", "Frames in which nobody is there.",
     "Leave them out, as the field does: --fix does."),
    ("zero-frames", "warning", "A person whose joints are all 0 in the middle of a clip: who is lost seems to jump to "
     "the camera and back.", "Leave these frames out, or fill them by interpolation: --fix leaves them out."),
    ("zero-padding", "warning", "A person's frames at the beginning or the end are all 0: padding stored as data.",
     "Cut it, the loader pads: --fix does."),
    ("zero-joints", "warning", "Single joints are exactly 0: joints that were lost.",
     "Fill them by interpolation, or leave these clips out."),
    ("many-persons", "warning", "More persons than the models of the field take.",
     "Choose bodies when converting (by motion, as the field does), or train with more persons."),
    ("swapped-persons", "warning", "Two persons exchange their places from one frame to the next.",
     "Track them again; motion energy and masks are wrong at that frame."),
    ("twin-persons", "warning", "Two persons have equal coordinates: one body was stored twice.",
     "Leave one of them out."),
    # Time
    ("short", "warning", "The clip has hardly a frame.", "Leave it out: --fix does."),
    ("frozen", "warning", "The same frame many times in a row, in the middle of a clip or all of it.",
     "Leave the repetitions out: --fix does."),
    ("padding", "warning", "The first or the last frame many times in a row: padding stored as data.",
     "Cut it, the loader pads: --fix does."),
    ("looped", "warning", "The clip begins again from its first frame: padding by repetition, stored as data.",
     "Cut it, the loader pads: --fix does."),
    # Bones and motion
    ("bone-length", "warning", "A bone is impossibly long, in some frames or against all other clips.",
     "Smooth or leave out these clips; bone streams suffer most."),
    ("teleport", "warning", "A joint jumps further than a body can in a frame.",
     "Smooth or leave out these frames; masks by motion energy choose them first."),
    ("clip-scale", "error", "The body is many times larger or smaller than those of the other clips: another unit.",
     "Bring all clips to one unit."),
    ("units", "warning", "Bodies are not of a human size in metres.",
     "Say so to your model, or convert: millimetres are divided by 1000."),
    ("upside-down", "warning", "The head is below the feet.", "Turn these clips, or leave them out."),
    ("up-axis", "warning", "The axis y does not point up, or points down, in all clips.",
     "Turn the coordinates before facing bodies forward, which turns them about y."),
    ("mirrored", "warning", "Left and right are exchanged: the feet point backwards.",
     "Mirror these clips back, or exchange the joints of the left and the right."),
    # Labels
    ("label-range", "error", "A label is not a class.", "Correct the labels: --fix leaves these clips out."),
    ("label-missing", "warning", "Some clips have no label, others have.", "Label them, or use them without labels."),
    ("subject-missing", "note", "Some clips do not tell who acts, others do.", "They cannot be split by subject."),
    ("view-missing", "note", "Some clips do not tell their camera, others do.", "They cannot be split by view."),
    ("empty-class", "warning", "A class has no clip, or none to train on.", "Take it from the list, or find clips."),
    ("unbalanced", "warning", "Some classes have many times the clips of others.",
     "Weigh classes in the loss, and look at the accuracy of each class."),
    # Copies and splits
    ("duplicate", "warning", "Clips are equal.", "Keep one: --fix does."),
    ("duplicate-label", "error", "Clips are equal, but their labels differ.", "Look which is right: --fix drops all."),
    ("duplicate-across-split", "error", "A test clip is equal to a training clip: accuracy is too high.",
     "Leave the copy out of training: --fix does."),
    ("split-overlap", "error", "A clip is in the training and in the test split.",
     "Take it out of one: --fix takes it out of training."),
    ("empty-split", "error", "A side of the split has no clip.", "Choose another split, or look for its clips."),
    ("subject-leak", "error", "A split by subject has a subject on both sides.", "Split again."),
    ("view-leak", "error", "A split by view has a camera on both sides.", "Split again."),
    ("subject-shared", "note", "Subjects are on both sides of a split that is not by subject.",
     "Accuracy is that on known people; on strangers it will be lower."),
)  # fmt: skip
"""By name, in the order of tables."""
