"""NTU RGB+D 60 and 120: names of sequences, classes, the four protocols (docs/method.md, "NTU preparation").

Shapes: n sequences, K classes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shapmix.skeleton import SkeletonLayout

from .store import DataError

LAYOUT = SkeletonLayout.get("ntu25")
NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})", re.ASCII)
COLUMNS = ("setup", "camera", "subject", "replication", "action")  # in the order of the name
NTU60_SETUPS = 17  # set-ups 1 to 17 belong to NTU RGB+D 60
NUM_CLASS = {"ntu60": 60, "ntu120": 120}

CLASSES = (
    "drink water", "eat meal", "brush teeth", "brush hair", "drop", "pick up", "throw", "sit down", "stand up",
    "clapping", "reading", "writing", "tear up paper", "put on jacket", "take off jacket", "put on a shoe",
    "take off a shoe", "put on glasses", "take off glasses", "put on a hat", "take off a hat", "cheer up",
    "hand waving", "kicking something", "reach into pocket", "hopping", "jump up", "phone call", "play with phone",
    "type on a keyboard", "point to something", "taking a selfie", "check time", "rub two hands", "nod head or bow",
    "shake head", "wipe face", "salute", "put palms together", "cross hands in front", "sneeze or cough",
    "staggering", "falling down", "headache", "chest pain", "back pain", "neck pain", "nausea or vomiting",
    "fan self", "punch or slap", "kicking", "pushing", "pat on back", "point finger at other", "hugging",
    "giving object", "touch other's pocket", "shaking hands", "walking towards", "walking apart",
    "put on headphone", "take off headphone", "shoot at basket", "bounce ball", "tennis bat swing",
    "juggle table tennis ball", "hush", "flick hair", "thumb up", "thumb down", "make OK sign", "make victory sign",
    "staple book", "counting money", "cutting nails", "cutting paper", "snap fingers", "open bottle",
    "sniff or smell", "squat down", "toss a coin", "fold paper", "ball up paper", "play magic cube",
    "apply cream on face", "apply cream on hand", "put on bag", "take off bag", "put object into bag",
    "take object out of bag", "open a box", "move heavy objects", "shake fist", "throw up cap", "hands up",
    "cross arms", "arm circles", "arm swings", "run on the spot", "butt kicks", "cross toe touch", "side kick",
    "yawn", "stretch oneself", "blow nose", "hit with object", "wield knife", "knock over", "grab other's stuff",
    "shoot with gun", "step on foot", "high-five", "cheers and drink", "carry object together", "take a photo",
    "follow other", "whisper", "exchange things", "support somebody", "rock-paper-scissors",
)  # fmt: skip

_NTU60_SUBJECTS = (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
_NTU120_SUBJECTS = (
    *_NTU60_SUBJECTS, 45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86,
    89, 91, 92, 93, 94, 95, 97, 98, 100, 103,
)  # fmt: skip


@dataclass(frozen=True)
class Protocol:
    """How a data set is split."""

    dataset: str  # ntu60 or ntu120
    by: str  # the column that decides the split; each part is ordered by it, then by name
    train: tuple[int, ...]  # its values in the training set; the rest is the test set
    n_max: int  # samples of the most frequent class in BRL's long-tailed lists
    arrays: str  # name of CTR-GCN's .npz file

    @property
    def num_class(self) -> int:
        """K."""
        return NUM_CLASS[self.dataset]

    def rows(self, columns: Mapping[str, np.ndarray], train: bool) -> np.ndarray:
        """Rows of the training or test set, in the published order; ``columns`` as from :func:`parse_names`."""
        inside = np.isin(columns[self.by], self.train) == train
        if self.dataset == "ntu60":
            inside &= columns["setup"] <= NTU60_SETUPS
        rows = np.flatnonzero(inside)
        return rows[np.lexsort([columns[key][rows] for key in (*reversed(COLUMNS), self.by)])]


PROTOCOLS = {
    "ntu60_xsub": Protocol("ntu60", "subject", _NTU60_SUBJECTS, 600, "NTU60_CS"),
    "ntu60_xview": Protocol("ntu60", "camera", (2, 3), 600, "NTU60_CV"),
    "ntu120_xsub": Protocol("ntu120", "subject", _NTU120_SUBJECTS, 600, "NTU120_CSub"),
    "ntu120_xset": Protocol("ntu120", "setup", tuple(range(2, 33, 2)), 400, "NTU120_CSet"),
}


def protocol_of(stem: str) -> str | None:
    """The protocol of an official ``.npz`` file by its stem: NTU60_CS as CTR-GCN has it, NTU60_XSub as Shap-Mix."""
    return next((name for name, rule in PROTOCOLS.items() if stem.lower() in (name, rule.arrays.lower())), None)


def parse_names(names: Sequence[str], where: object = "") -> dict[str, np.ndarray]:
    """Set-up, camera, subject, replication and action numbers of n sequences, each (n,) int64.

    Raises:
        DataError: names that are not SsssCcccPpppRrrrAaaa: how many, the first five, and the file ``where`` they are.
    """
    found = [NAME.fullmatch(name) for name in names]
    wrong = [name for name, match in zip(names, found, strict=True) if match is None]
    if wrong:
        place = f"{where}: " if where else ""
        raise DataError(f"{place}{len(wrong)} names are not SsssCcccPpppRrrrAaaa: {', '.join(wrong[:5])}")
    numbers = np.array([match.groups() for match in found if match], dtype=np.int64).reshape(-1, len(COLUMNS))
    return dict(zip(COLUMNS, numbers.T, strict=True))
