"""Torn files: every kind of file that is read is cut off, or has some bytes changed, or a block of zeros.

Files that this program writes carry checksums, and must be refused, or say what they said before. In files that people
write, such as a config or a list, another letter is another text: these must be read or refused, and no more.
"""

from __future__ import annotations

import json
import logging
import pickle
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from feeders.convert.ctrgcn_npz import read_labels as read_one_hot
from feeders.convert.label_table import read_table as read_label_table
from feeders.convert.pickles import load_restricted
from feeders.lists import read_list
from feeders.store import Sample, SkeletonStore, StoreWriter
from processor import saliency_file
from processor.checkpoint import load_checkpoint, save_checkpoint
from processor.config_files import read_yaml
from processor.report import explain
from processor.run_folder import MetricsLog, RunFolder
from processor.safetensors_file import save_safetensors
from processor.scores import ScoreFile, read_scores
from processor.zoo import ZOO, read_index
from shapmix import ShapMix

from .case import ROOT, Case, Outcome
from .damage import DAMAGES, digest, outcome_of_reading

CLASSES, PEOPLE, JOINTS, EPOCHS = 4, 1, 25, 30


@dataclass(frozen=True)
class Target:
    """A file that is damaged, and its reader.

    Attributes:
        read: returns what it says.
        checked: it carries a checksum.
    """

    path: Path
    read: Callable[[], Any]
    checked: bool = True


def cases(rng: random.Random, folder: Path) -> Iterator[Case]:
    """A kind of file, a kind of damage and its place, without end."""
    targets = written(folder)
    whole = {target.path: target.path.read_bytes() for target in targets}
    says = {target.path: digest(target.read()) for target in targets}
    while True:
        for target in targets:
            damage = rng.choice(list(DAMAGES))
            content = DAMAGES[damage](whole[target.path], random.Random(place := rng.randrange(2**32)))
            name = f"{damage}: {target.path.name}, draw {place}"
            yield Case(name, partial(_damaged, target, content, whole[target.path], says[target.path]))


def _damaged(target: Target, content: bytes, whole: bytes, says: str) -> Outcome:
    target.path.write_bytes(content)
    try:
        return outcome_of_reading(
            target.read, says, *map(str, (target.path, target.path.parent)), checked=target.checked
        )
    finally:
        target.path.write_bytes(whole)


def written(folder: Path) -> list[Target]:
    """One file of every kind, and its reader."""
    return [
        *_store(folder / "store"),
        *_unfinished(folder / "unfinished"),
        *_run(folder / "run"),
        *_of_people(folder / "theirs"),
    ]


def _sequences() -> list[Sample]:
    numbers = np.random.default_rng(0)
    shapes = [(5 + row, PEOPLE, JOINTS, 3) for row in range(12)]
    found = [
        Sample(f"s{row}", row % CLASSES, numbers.normal(size=shape).astype(np.float32), columns={"subject": row % 3})
        for row, shape in enumerate(shapes)
    ]
    return [*found, Sample("bad", 0, problem="has 0 frames", columns={"subject": 1})]


def _finish(folder: Path) -> None:
    """Writes the sequences that a store lacks, and closes it."""
    with StoreWriter(folder) as writer:
        for sample in _sequences()[len(writer.entries) :]:
            writer.add(sample)
        writer.close("faults", layout="ntu25")


def _content(folder: Path) -> Any:
    """All that a store says."""
    store = SkeletonStore(folder)
    store.check()
    arrays = np.array(store.frames), store.offsets, store.labels, store.columns, store.largest
    return arrays, store.ids, store.meta, store.problems


def _store(folder: Path) -> list[Target]:
    folder.mkdir()
    _finish(folder)
    return [Target(path, partial(_content, folder)) for path in sorted(folder.iterdir())]


def _unfinished(folder: Path) -> list[Target]:
    """What a killed preparation leaves; read as the next one does it, which goes on."""
    folder.mkdir()
    with StoreWriter(folder) as writer:
        for sample in _sequences()[:9]:
            writer.add(sample)

    def read() -> Any:
        copy = folder.with_name("unfinished_copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        logging.disable()  # it warns of what it makes again
        try:
            _finish(copy)
        finally:
            logging.disable(logging.NOTSET)
        return _content(copy)

    return [Target(folder / name, read) for name in ("frames.npy", "journal.jsonl")]


def _run(folder: Path) -> list[Target]:
    folder.mkdir()
    run, numbers = RunFolder(folder), np.random.default_rng(0)
    weights = {"fc.weight": torch.from_numpy(numbers.normal(size=(CLASSES, 60))), "fc.bias": torch.ones(CLASSES)}
    card = {"class_names": ["a", "b", "c", "d"], "temperature": 1.25, "baseline": torch.ones(3, 4)}
    state = {"model": weights, "card": card, "config": {"seed": 3, "base_lr": 0.1}, "epoch": 7}
    save_checkpoint(run.last, state)
    save_safetensors(folder / "weights.safetensors", state)
    ids, names = [f"s{row}" for row in range(20)], card["class_names"]
    scores = numbers.normal(size=(20, CLASSES)).astype(np.float32)
    file = ScoreFile("", ids, scores, np.arange(20) % CLASSES, names, [40, 20, 9, 2])  # type: ignore[arg-type]
    file.write(run.scores())
    file.write(folder / "compressed.npz", compressed=True)
    curves = numbers.random((2, 4, 20, 6))
    parts = ["torso", "left arm", "right arm", "left leg", "right leg"]
    values = numbers.normal(size=(2, 20, 5))
    labels: Any = np.arange(20) % CLASSES
    explain.Explanation("", ids, labels, list(names), parts, values[0], values[1], curves).save(run.explanation)
    mixer = ShapMix("ntu25", class_counts=[40, 20, 9, 2])
    saliency_file.write_table(run.saliency_table("joint"), mixer)
    record = MetricsLog(run, 0)
    for epoch in range(EPOCHS):
        record.add({"epoch": epoch, "loss": 1 / (epoch + 1), "top1": 0.5, "per_class": [0.25, None]})
    record.close()
    readers: dict[Path, Callable[[], Any]] = {
        run.last: partial(load_checkpoint, run.last),
        folder / "weights.safetensors": partial(load_checkpoint, folder / "weights.safetensors"),
        run.scores(): lambda: _without_source(read_scores(run.scores())),
        folder / "compressed.npz": lambda: _without_source(read_scores(folder / "compressed.npz")),
        run.explanation: partial(explain.load, run.explanation),
        run.saliency_table("joint"): partial(_table, run.saliency_table("joint")),
        run.metrics: partial(_metrics, run),
    }
    return [Target(path, read) for path, read in readers.items()]


def _without_source(file: ScoreFile) -> dict[str, Any]:
    return {name: value for name, value in vars(file).items() if name != "source"}


def _metrics(run: RunFolder) -> Any:
    """The lines, if they are all there: who needs them all asks this, and the others show what is missing."""
    lines, damaged = run.read_metrics(), run.damaged_metrics()
    if damaged or not lines or lines[-1]["epoch"] != EPOCHS - 1:
        raise ValueError(f"{run.metrics}: {len(lines)} lines are whole, damaged are {damaged}")
    return lines


def _table(path: Path) -> np.ndarray:
    mixer = ShapMix("ntu25", class_counts=[40, 20, 9, 2])
    saliency_file.read_table(path, mixer)
    table: np.ndarray = mixer.saliency.table.numpy()
    return table


def _of_people(folder: Path) -> list[Target]:
    """Files that people write, or other programs."""
    folder.mkdir()
    texts: dict[str, tuple[str, Callable[[Path], Any]]] = {
        "recipe.yaml": ((ROOT / "config" / "demo.yaml").read_text(encoding="utf-8"), read_yaml),
        "list.txt": ("".join(f"S001C001P001R001A{n:03d}\n" for n in range(1, 60)), read_list),
        "labels.csv": ("id,label,subject\n" + "".join(f"take {n},wave {n % 3},{n % 5}\n" for n in range(40)), _labels),
        "environment.json": (json.dumps({"weights_checksum": "ab" * 16, "seed": 1}), _environment),
    }
    (folder / "index.json").write_bytes((ZOO / "index.json").read_bytes())
    targets = [Target(folder / "index.json", lambda: read_index(folder), False)]
    for name, (text, read) in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
        targets.append(Target(folder / name, partial(read, folder / name), False))
    scores = {f"s{row}": np.arange(CLASSES) / 7 for row in range(20)}
    (folder / "best_score.pkl").write_bytes(pickle.dumps(scores))
    targets.append(Target(folder / "best_score.pkl", lambda: read_scores(folder / "best_score.pkl"), False))
    (folder / "annotations.pkl").write_bytes(pickle.dumps({"split": {"train": ["a"]}, "annotations": [scores] * 3}))
    deferred = partial(load_restricted, folder / "annotations.pkl", deferred=True)
    targets.append(Target(folder / "annotations.pkl", lambda: str(deferred()), False))
    np.savez(folder / "NTU60_CS.npz", x_train=np.ones((9, 20, 150), np.float32), y_train=np.eye(3)[np.arange(9) % 3])
    targets.append(Target(folder / "NTU60_CS.npz", lambda: read_one_hot(folder / "NTU60_CS.npz", "y_train"), False))
    return targets


def _labels(path: Path) -> Any:
    return read_label_table(str(path), path.read_bytes())


def _environment(path: Path) -> Any:
    return RunFolder(path.parent).weights_checksum()
