"""The zoo: trained networks in the folder ``zoo`` of the repository, ``--weights zoo:NAME``.

``index.json`` has an :class:`Entry` for each name. Its folder ``zoo/NAME`` holds the weights with their card, the
config that trains it, the metrics of each epoch and the test scores.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from feeders.files import parse_json, write_atomically

from .config_files import nearest
from .errors import CheckpointError
from .safetensors_file import SUFFIX

log = logging.getLogger(__name__)

PREFIX = "zoo:"
ZOO = Path(__file__).parents[1] / "zoo"
LARGEST = 3_000_000  # bytes of a file of weights


@dataclass(frozen=True)
class Entry:
    """What is known of a network in the zoo.

    Attributes:
        name: of the entry.
        sha256: of the file of weights.
        dtype: of the stored weights; the figures are those of the stored ones.
        network: its class path.
        parameters: how many.
        data: what it was trained on, in words.
        classes, layout, stream: of that data.
        method: mixing and loss.
        command: how it was trained.
        seed, epochs, commit: of that run; the commit of this program.
        test_samples: n.
        top1: share of them, 0 .. 1.
        interval: 95 % interval of ``top1`` over test samples (Wilson, 1927), not over seeds.
        mean_class: mean of the accuracies of the classes.
    """

    name: str
    sha256: str
    dtype: str
    network: str
    parameters: int
    data: str
    classes: int
    layout: str
    stream: str
    method: str
    command: str
    seed: int
    epochs: int
    commit: str
    test_samples: int
    top1: float
    interval: tuple[float, float]
    mean_class: float

    def figure(self) -> str:
        """``98.8 % [96.4, 99.6]``: top-1 with its interval."""
        low, high = self.interval
        return f"{100 * self.top1:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"

    def file(self, folder: Path = ZOO) -> Path:
        """Its weights."""
        return folder / self.name / f"{self.name}{SUFFIX}"


def read_index(folder: Path = ZOO) -> dict[str, Entry]:
    """The entries by name.

    Raises:
        CheckpointError: there is no zoo, as in an installed program, or its index is damaged.
    """
    path = folder / "index.json"
    if not path.is_file():
        raise CheckpointError(
            f"there is no zoo at {folder}: it belongs to the repository, not to an installed program. Run the command "
            "in a clone, or name the file of weights itself"
        )
    try:
        read = [Entry(**{**entry, "interval": tuple(entry["interval"])}) for entry in parse_json(path.read_bytes())]
    except (ValueError, TypeError, LookupError) as error:
        raise CheckpointError(f"{path} is damaged or of another version ({error}); fetch it again") from error
    return {entry.name: entry for entry in read}


def write_index(entries: dict[str, Entry], folder: Path = ZOO) -> None:
    """index.json, by name."""
    content: list[dict[str, Any]] = [asdict(entries[name]) for name in sorted(entries)]
    write_atomically(folder / "index.json", (json.dumps(content, indent=1) + "\n").encode())


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_file(name: str) -> Path:
    """The file that ``--weights`` names: ``zoo:NAME``, of the zoo, or a path, which is returned as it is.

    The first time, the file is compared with its checksum, and the log says what it was trained on.

    Raises:
        CheckpointError: no such entry, no zoo, or a file that is missing or damaged.
    """
    return _checked(name, ZOO) if name.startswith(PREFIX) else Path(name)


@cache
def _checked(name: str, folder: Path) -> Path:
    entries, wanted = read_index(folder), name.removeprefix(PREFIX)
    if wanted not in entries:
        raise CheckpointError(f"{name}: the zoo has no {wanted!r}{nearest(wanted, entries)}")
    entry = entries[wanted]
    path = entry.file(folder)
    if not path.is_file() or sha256(path) != entry.sha256:
        state = "has another checksum than the index says" if path.is_file() else "is missing"
        raise CheckpointError(f"{name}: {path} {state}; fetch it again: git checkout -- zoo")
    log.info("%s was trained on %s: %s", name, entry.data, summary(entry))
    return path


def summary(entry: Entry) -> str:
    """One line about an entry, without its name and data."""
    return (
        f"{entry.classes} classes, {entry.layout}, {entry.stream}; {entry.network}, {entry.parameters / 1e6:.3f} M "
        f"parameters, {entry.method}; test top-1 {entry.figure()}"
    )


def zoo_table(entries: dict[str, Entry]) -> str:
    """The entries as Markdown."""
    lines = ["| `--weights` | data | network | method | top-1, 95 % interval | mean class | stored |", "|---" * 7 + "|"]
    for entry in entries.values():
        network = f"`{entry.network}`, {entry.parameters / 1e6:.3f} M"
        data = f"{entry.data}; {entry.classes} classes, {entry.layout}"
        figures = f"{entry.figure()} of {entry.test_samples} | {100 * entry.mean_class:.1f} %"
        method = f"{entry.method}, {entry.epochs} epochs, seed {entry.seed}"
        lines.append(f"| `zoo:{entry.name}` | {data} | {network} | {method} | {figures} | {entry.dtype} |")
    return "\n".join([*lines, ""])
