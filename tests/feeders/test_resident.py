"""Frames that stay on the device, batches made ahead: the same batches, in the same order, and what can go wrong."""

from __future__ import annotations

import logging
import threading

import numpy as np
import pytest
import torch

from feeders import feeder_ntu, feeder_ucla, resident, synthetic
from feeders.feeder import FREE_SHARE, make_resident
from feeders.feeder_pose import Feeder as Pose
from feeders.loader import Batch, StoreLoader, prefetch
from feeders.resident import ResidentFrames
from feeders.store import DataError, SkeletonStore
from processor import command_line
from processor.checkpoint import load_checkpoint
from processor.config_files import load_config
from processor.data import load_data
from processor.errors import ConfigError
from processor.processor import Processor
from processor.run_folder import RunFolder
from tests.conftest import annotations, ntu_names, write_ntu_store, write_pickle, write_ucla

CPU = torch.device("cpu")
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict:
    """Name -> (makes a feeder of a split and stream, training split, test split)."""
    folder = tmp_path_factory.mktemp("resident")
    rng = np.random.default_rng(0)
    names = ntu_names(setups=(1, 2, 17, 18), subjects=(1, 2, 3), actions=(1, 2, 60))
    sequences = {
        name: rng.normal(size=(int(rng.integers(5, 90)), 1 + name.endswith("060"), 25, 3)).astype(np.float32)
        for name in names
    }
    store = str(write_ntu_store(folder / "ntu120", sequences))
    ucla, cache = str(write_ucla(folder / "ucla")), str(folder)
    pickled = str(write_pickle(folder / "a.pkl", annotations()))
    options = {"random_shift": True, "random_move": True, "normalization": True, "random_rot": True}
    return {
        "ntu": lambda split, stream: feeder_ntu.Feeder(
            store, split, "ntu120_xsub", stream, p_interval=[0.5, 1] if split == "train" else None, random_rot=True
        ),
        "ntu with options": lambda split, stream: feeder_ntu.Feeder(store, split, "ntu120_xsub", stream, **options),
        "ntu in memory": lambda split, stream: feeder_ntu.Feeder(store, split, "ntu120_xsub", stream, use_mmap=False),
        "ucla": lambda split, stream: feeder_ucla.Feeder(ucla, split, stream, cache_dir=cache),
        "pose": lambda split, stream: Pose(
            ann_file=pickled, split="train" if split == "train" else "val", stream=stream, num_clips=2, flip=0.5
        ),
        "synthetic": lambda split, stream: synthetic.Feeder(split, stream, n_max=20, num_test=3, cache_dir=cache),
    }


NAMES = ("ntu", "ntu with options", "ntu in memory", "ucla", "pose", "synthetic")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("wanted", [False, "auto", True])
@pytest.mark.parametrize("name", NAMES)
def test_same_batches(sources, name, wanted, device, monkeypatch):
    monkeypatch.setattr(resident, "PACKED_AT_ONCE", 2**14)  # several pieces
    place = torch.device(device)
    for split in ("train", "test"):
        for stream in ("joint", "bone_motion"):
            plain, asked, train = (sources[name](one, stream) for one in (split, split, "train"))
            for feeder in (plain, asked):
                feeder.agree({"train": train, "test": feeder})
            make_resident({split: asked}, place, wanted)
            assert (asked.resident is not None) == (wanted is True or (wanted == "auto" and device == "cuda"))
            if asked.resident is not None:
                monkeypatch.setattr(asked.store, "pieces", lambda *_: pytest.fail("read from disk"))
            theirs, ours = (StoreLoader(feeder, 10, 3, place) for feeder in (plain, asked))
            for one, other in zip(theirs.shuffled(1), ours.shuffled(1), strict=True):
                assert torch.equal(one.x, other.x)
                assert torch.equal(one.y, other.y)
            for one, other in zip(theirs.in_order(7), ours.in_order(7), strict=True):
                assert torch.equal(one.x, other.x)
                assert one.clips == other.clips


def test_only_the_members_are_held(sources):
    feeder = sources["ntu"]("train", "joint")
    feeder.make_resident(CPU)
    assert feeder.resident.frames.shape == (feeder.store.lengths[feeder.members].sum(), 3, 2, 25)
    strangers = np.setdiff1d(np.arange(len(feeder.store)), feeder.members)
    with pytest.raises((IndexError, RuntimeError), match="out of"):
        feeder.view(strangers[:1], CPU, None)


def test_what_is_read_may_be_changed(sources):
    feeder = sources["ntu"]("train", "joint")
    feeder.make_resident(CPU)
    before = feeder.resident.frames.clone()
    feeder.read(feeder.members[:3], np.zeros((3, 2), np.int64), CPU).zero_()
    assert torch.equal(feeder.resident.frames, before)


def test_half_precision_stays(sources):
    feeder = sources["pose"]("train", "joint")
    feeder.make_resident(CPU)
    assert feeder.store.frames.dtype == np.float16
    assert feeder.resident.frames.dtype == torch.float16


def test_portions_of_a_batch_are_the_batch(sources, monkeypatch):
    feeder = sources["ntu"]("train", "joint")
    rows, draws = np.arange(20), feeder.draw(20, torch.Generator().manual_seed(0))
    whole, test_view = feeder.batch(rows, draws=draws), feeder.batch(rows)
    monkeypatch.setattr("feeders.crop.CACHED", 3)
    assert torch.equal(feeder.batch(rows, draws=draws), whole)
    assert torch.equal(feeder.batch(rows), test_view)
    alone = [feeder.batch(rows[[i]], draws=draws.map(lambda numbers, i=i: numbers[[i]])) for i in rows]
    assert torch.equal(torch.cat(alone), whole)


@pytest.mark.parametrize(
    ("room", "held"),
    [((0, 0.99), []), ((0, 1), ["test"]), ((1, 0), ["train"]), ((1, 0.99), ["train"]), ((1, 1), ["train", "test"])],
)
def test_auto_takes_what_fits(sources, monkeypatch, caplog, room, held):
    feeders = {split: sources["ntu"](split, "joint") for split in ("train", "test")}
    sizes = [resident.packed_bytes(feeder.store, feeder.members) for feeder in feeders.values()]
    free = int(sum(np.multiply(room, sizes)) / FREE_SHARE) + 3
    made: list[str] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**12))
    monkeypatch.setattr(feeder_ntu.Feeder, "make_resident", lambda self, device: made.append(self.split))
    with caplog.at_level(logging.INFO):
        make_resident(feeders, torch.device("cuda"), "auto")
    assert made == held
    assert caplog.text.count("held in the memory of cuda") == len(held)
    assert caplog.text.count("read batch by batch") == 2 - len(held)
    assert f"{sizes[0] / 2**20:.0f} MB of train frames" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError("no room"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_too_little_memory_says_what_to_do(sources, monkeypatch, error):
    feeder = sources["ntu"]("train", "joint")

    def empty(*_, **__):
        raise error

    monkeypatch.setattr(torch, "empty", empty)
    with pytest.raises(DataError, match="do not fit into the memory of cpu; set device_resident: false"):
        make_resident({"train": feeder}, CPU, True)


def test_other_errors_keep_their_type(sources, monkeypatch):
    feeder = sources["ntu"]("train", "joint")

    def sequence(self, number):
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(SkeletonStore, "sequence", sequence)
    with pytest.raises(RuntimeError, match=r"^an illegal"):
        ResidentFrames(feeder.store, feeder.members, CPU)


# --- the config ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "value"), [([], "auto"), (["auto"], "auto"), (["true"], True), (["false"], False)])
def test_command_line(write_config, words, value):
    path = write_config()
    arguments = command_line.parser().parse_args(["--config", path, *(["--device_resident", *words] if words else [])])
    config = load_config(path, command_line.overrides(arguments))
    assert config.device_resident is value or config.device_resident == value == "auto"
    assert load_config(write_config(device_resident=value)).device_resident == value
    assert "device_resident" not in config.identity()
    with pytest.raises(ConfigError, match=r"device_resident: .*must be auto, true or false; got 'maybe'"):
        load_config(path, {"device_resident": "maybe"})


def test_a_run_is_the_same_run(write_config, tmp_path):
    ends = []
    for wanted in (False, True):
        config = load_config(
            write_config(), {"device_resident": wanted, "work_dir": str(tmp_path / str(wanted)), "device": "cpu"}
        )
        assert all((feeder.resident is not None) == wanted for feeder in load_data(config, CPU).feeders.values())
        assert Processor(config).start() == 0
        ends.append(load_checkpoint(RunFolder(config.work_dir).last)["model"])
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


# --- prefetching -----------------------------------------------------------------------------------------------------


def numbered(number: int, made: list[int], fail_at: int = -1):
    """Batches 0 .. number - 1; ``made`` grows as they are made."""
    for place in range(number):
        if place == fail_at:
            raise DataError(f"batch {place} is cut off")
        made.append(place)
        yield Batch(torch.full((2, 1), float(place)), torch.zeros(2).long(), torch.tensor([place, place]))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_prefetch_keeps_the_order_and_is_one_ahead():
    made: list[int] = []
    ahead = prefetch(numbered(5, made), CPU)
    assert [float(batch.x[0]) for batch in ahead] == [0, 1, 2, 3, 4]
    assert not threads()
    assert list(prefetch(numbered(0, made), CPU)) == []


def test_prefetch_works_while_the_caller_does():
    second = threading.Event()

    def batches():
        yield next(numbered(1, []))
        second.set()
        yield next(numbered(1, []))

    ahead = prefetch(batches(), CPU)
    next(ahead)
    assert second.wait(10), "the second batch is made before the caller wants it"
    ahead.close()


def test_prefetch_hands_an_error_on_in_its_turn():
    ahead = prefetch(numbered(5, [], fail_at=2), CPU)
    assert [float(next(ahead).x[0]) for _ in range(2)] == [0, 1]
    with pytest.raises(DataError, match=r"^batch 2 is cut off$"):
        next(ahead)
    assert not threads()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_prefetch_ends_with_its_caller(error):
    made: list[int] = []

    def train() -> None:
        for batch in prefetch(numbered(100, made), CPU):
            if float(batch.x[0]) == 2:
                raise error

    with pytest.raises(error):
        train()
    assert not threads()
    assert made in ([0, 1, 2], [0, 1, 2, 3])


@pytest.mark.parametrize("device", DEVICES)
def test_batches_made_ahead_are_the_batches(sources, device):
    place = torch.device(device)
    loader = StoreLoader(sources["ntu"]("train", "joint"), 10, 3, place)
    plain = list(loader._shuffled(2, 1))
    ahead = list(prefetch(loader._shuffled(2, 1), place))
    assert len(plain) == len(ahead) == loader.steps - 1
    for one, other in zip(plain, ahead, strict=True):
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.rows, other.rows)


@pytest.mark.parametrize(
    ("device", "held", "ahead"), [("cuda", False, 2), ("cuda", True, 0), ("cpu", False, 0), ("cpu", True, 0)]
)
def test_who_is_read_ahead(sources, monkeypatch, device, held, ahead):
    loader = StoreLoader(sources["ntu"]("train", "joint"), 10, 3, CPU)
    if held:
        loader.feeder.make_resident(CPU)
    asked = []
    monkeypatch.setattr("feeders.loader.prefetch", lambda batches, device: asked.append(device) or iter(()))
    monkeypatch.setattr(loader.feeder, "batch", lambda *_: torch.zeros(1))
    monkeypatch.setattr(loader, "_to_device", lambda x, rows: rows)
    loader.device = torch.device(device)
    assert (next(loader.shuffled(0), None) is None) == (next(loader.in_order(4), None) is None) == bool(ahead)
    assert len(asked) == ahead
