"""Files of strangers: code in pickles, tags, bombs, members that climb out, counts that lie, names that are markup.

Each case asks for a side effect, a file under its own folder. Where that file is there afterwards, the case is lost. A
reader may take 2 GB more memory than the process has.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import random
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from feeders.convert.ctrgcn_npz import read_labels as read_one_hot
from feeders.convert.forms import FORMS
from feeders.convert.pickles import load_restricted
from feeders.convert.recording import Hints
from feeders.convert.sequences import read_take
from feeders.convert.takes import find_takes
from feeders.store import Sample, SkeletonStore, StoreWriter
from processor.checkpoint import load_checkpoint, save_checkpoint
from processor.config_files import import_class, load_config
from processor.recognition import Recognizer
from processor.scores import read_scores

from .case import Case, Outcome
from .damage import outcome_of_reading
from .untrained import write_checkpoint

TERA = 10**13
CLASS_PATHS = (
    "os.system", "subprocess.Popen", "builtins.eval", "feeders.store.os.system", "model", "model..ctrgcn.Model",
    "feeders.files.os", "processor.user_code.random", "model.ctrgcn.nn.Linear", "../evil.Model", "feeders.__builtins__",
    "model.ctrgcn.Model; import os", "tools.sweep.main", "main.main",
)  # fmt: skip


class Code:
    """Asks for a call when it is unpickled."""

    def __init__(self, marker: Path, kind: int) -> None:
        self.marker, self.kind = str(marker), kind

    def __reduce__(self) -> tuple[Any, ...]:
        calls: list[tuple[Any, ...]] = [
            (os.system, (f"touch {self.marker}",)),
            (subprocess.check_call, (["touch", self.marker],)),
            (open, (self.marker, "w")),
            (os.mkdir, (self.marker,)),
            (getattr(__import__("builtins"), "ex" + "ec"), (f"open({self.marker!r}, 'w')",)),
        ]
        return calls[self.kind % len(calls)]


def cases(rng: random.Random, folder: Path) -> Iterator[Case]:
    """Every kind of attack in turn, its details drawn, without end."""
    made: dict[str, Callable[[Path, Path, random.Random], Outcome]] = {
        "code in a pickle": _pickle, "code in an array": _array, "code in a checkpoint": _checkpoint,
        "code in a store": _store, "YAML": _yaml, "class path": _class_path,
        "class path of a checkpoint": _class_path_of_checkpoint, "count": _count, "zip": _zip,
    }  # fmt: skip
    number = 0
    while True:
        for name, attack in made.items():
            number, draw = number + 1, rng.randrange(2**32)
            place = folder / f"case_{number}"
            yield Case(f"{name}: draw {draw}", partial(_watched, attack, place, random.Random(draw)))


def _watched(attack: Callable[..., Outcome], folder: Path, rng: random.Random) -> Outcome:
    """Attacks deep in a folder, also the current one and that of temporary files; looks at all that is there."""
    inside, before = folder / "a" / "b" / "c", tempfile.tempdir
    inside.mkdir(parents=True)
    tempfile.tempdir = str(inside)
    try:
        with contextlib.chdir(inside):
            outcome: Outcome = attack(inside, folder / "marker", rng)
        found = [str(path) for path in folder.rglob("*") if "evil" in path.name or path.name == "marker"]
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder)
    return Outcome("lost", f"it wrote {found}") if found else outcome


def _pickle(folder: Path, marker: Path, rng: random.Random) -> Outcome:
    """In a score file, in annotations, also where numbers stay in the file; all protocols."""
    code = Code(marker, rng.randrange(5))
    content = rng.choice([code, {"a": code}, {"split": {}, "annotations": [code]}, [np.zeros(3), code]])
    path = folder / rng.choice(["best_score.pkl", "ntu60_3danno.pkl", "x.pickle"])
    path.write_bytes(pickle.dumps(content, protocol=rng.randrange(6)))
    reader = rng.choice([read_scores, load_restricted, partial(load_restricted, deferred=True)])
    return outcome_of_reading(partial(reader, path), "", str(path))


def _array(folder: Path, marker: Path, rng: random.Random) -> Outcome:
    """In an array of objects, as numpy writes them."""
    array = np.array([Code(marker, rng.randrange(5))], dtype=object)
    path = folder / rng.choice(["scores.npz", "take.npy", "take.npz"])
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        keys = {"ids": array, "scores": array} if path.stem == "scores" else {"frames": array}
        np.savez(path, **keys)  # type: ignore[arg-type]
    if path.stem == "scores":
        return outcome_of_reading(partial(read_scores, path), "", str(path))
    return outcome_of_reading(partial(_take, path), "", "objects", "numbers", "damaged")


def _take(path: Path) -> Any:
    (take,) = find_takes(path, FORMS).takes
    return read_take(take, Hints(num_joints=25, dims=3)).frames


def _checkpoint(folder: Path, marker: Path, rng: random.Random) -> Outcome:
    """In weights, of the new form and of the old one; in a file of another ending."""
    path = folder / rng.choice(["last.pt", "best.pth", "w.safetensors", "weights.pkl"])
    code = Code(marker, rng.randrange(5))
    content = rng.choice([code, {"model": code}, {"model": {"w": torch.ones(2)}, "config": {"seed": code}}])
    torch.save(content, path, _use_new_zipfile_serialization=rng.random() < 0.5)
    return outcome_of_reading(partial(load_checkpoint, path), "", str(path))


def _store(folder: Path, marker: Path, rng: random.Random) -> Outcome:
    """In the small arrays of a store, whose checksums the stranger wrote too."""
    with StoreWriter(folder) as writer:
        writer.add(Sample("a", 0, np.ones((4, 1, 25, 3), np.float32)))
        writer.close("hostile")
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(
        json.dumps({key: meta[key] for key in ("format", "name", "checksum", "problems")})
    )
    np.save(folder / rng.choice(["ids.npy", "labels.npy", "frames.npy"]), np.array([Code(marker, 0)], dtype=object))
    return outcome_of_reading(partial(SkeletonStore, folder), "", str(folder))


def _yaml(folder: Path, marker: Path, rng: random.Random) -> Outcome:
    """Tags that make objects, aliases that grow, nests that go deep."""
    bomb = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))
    text = rng.choice([
        f'feeder: !!python/object/apply:os.system ["touch {marker}"]',
        f'feeder: !!python/object/new:subprocess.Popen [["touch", "{marker}"]]',
        f"feeder: !!python/name:os.system\nx: !!python/module:subprocess\ny: {marker}",
        f"a0: &a0 x\n{bomb}",
        "a: " + "[" * 10**5,
        "a: " + "{b: " * 10**4,
        "a: &a [*a]",
        "<<: *a",
        f"num_epoch: 0x{'f' * 10**5}",
        "a: " + "9" * 10**5,
        "x" * 10**6,
    ])  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return outcome_of_reading(partial(load_config, str(path)), "", str(path))


def _class_path(folder: Path, marker: Path, rng: random.Random) -> Outcome:
    path, name = folder / "recipe.yaml", rng.choice(CLASS_PATHS)
    key, other = rng.choice([("feeder", "model: model.ctrgcn.Model"), ("model", "feeder: feeders.synthetic.Feeder")])
    path.write_text(f"{key}: {json.dumps(name)}\n{other}\n", encoding="utf-8")
    read = rng.choice([partial(import_class, name), partial(load_config, str(path))])
    return outcome_of_reading(read, "", name.partition(" ")[0], str(path))


def _class_path_of_checkpoint(folder: Path, marker: Path, rng: random.Random) -> Outcome:
    """In the config that a checkpoint carries."""
    path, name = write_checkpoint(folder), rng.choice(CLASS_PATHS)
    state, key = load_checkpoint(path), rng.choice(["model", "feeder"])
    save_checkpoint(path, {**state, "config": {**state["config"], key: name}})
    return outcome_of_reading(partial(Recognizer.from_checkpoint, path, "cpu"), "", str(path), name)


def _count(folder: Path, marker: Path, rng: random.Random) -> Outcome:
    """Headers and counts of terabytes."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({TERA}, 25, 3), }}".ljust(117) + "\n"
    array = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.encode() + bytes(64)
    deep = b'{"skeletons": ' + b"[" * 10**5
    motion = f"HIERARCHY\nROOT a\n{{\nOFFSET 0 0 0\nCHANNELS {TERA} Xposition\n}}\nMOTION\nFrames: {TERA}\n".encode()
    mat = (
        b"MATLAB 5.0".ljust(124)
        + b"\x00\x01IM"
        + (14).to_bytes(4, "little")
        + (2**31).to_bytes(4, "little")
        + bytes(64)
    )
    body = f"{TERA}\n{TERA}\n72057594037927931 0 1 1 0 0 0 0 0 2\n{TERA}\n".encode()
    files = {
        "take.npy": array, "take.json": deep, "take.bvh": motion, "take.mat": mat, "take.skeleton": body,
        "w.safetensors": (2**62).to_bytes(8, "little") + b"{}",
        "x.pkl": b"\x80\x04\x8e" + (2**62).to_bytes(8, "little"),
        "y.pkl": b"\x80\x04cnumpy\nndarray\nK\x00\x8a\x08" + (TERA).to_bytes(8, "little") + b"\x85R.",
    }  # fmt: skip
    name = rng.choice(list(files))
    path = folder / name
    path.write_bytes(files[name])
    readers: dict[str, Callable[[Path], Any]] = {".pkl": load_restricted, ".safetensors": load_checkpoint}
    if path.suffix in readers:
        return outcome_of_reading(partial(readers[path.suffix], path), "", str(path))
    return outcome_of_reading(partial(_take, path), "", "damaged", "nested", "file", path.stem)


def climbing(folder: Path) -> list[str]:
    """Names of members that lead out of a folder, to places that are looked at; the third one does so on Windows."""
    return ["../../evil.npy", str(folder.parent / "evil_root.npy"), "..\\evil.npy"]


def _zip(folder: Path, marker: Path, rng: random.Random) -> Outcome:
    """Members that climb out of the folder, that unpack to far more than they say, arrays that are bombs."""
    path = folder / "takes.zip"
    frames = io.BytesIO()
    np.save(frames, np.random.default_rng(0).normal(size=(9, 25, 3)))
    kind = rng.choice(["climbs", "bomb", "array"])
    if kind == "climbs":
        with zipfile.ZipFile(path, "w") as archive:
            for name in climbing(folder):
                archive.writestr(name, frames.getvalue())
        return outcome_of_reading(lambda: [read_take(one, Hints(25, 3)) for one in find_takes(path, FORMS).takes], None)
    member = "x_train.npy" if kind == "array" else "take.npy"
    path = folder / ("NTU60_CS.npz" if kind == "array" else "takes.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({TERA},), }}".ljust(117) + "\n"
        start = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.encode()
        archive.writestr(member, start + bytes(50_000_000))
    if kind == "array":
        return outcome_of_reading(partial(read_one_hot, path, "x_train"), "", str(path))
    return outcome_of_reading(partial(_take, path), "", "damaged", "large", "take")
