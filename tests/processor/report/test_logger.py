"""Loggers: grouped names, TensorBoard's files after a run and a resumption, wandb and trackio by stand-ins."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.record_writer import RecordWriter

import main
from processor.config import NOT_IDENTITY, Config
from processor.report import logger as module
from processor.report import monitor
from processor.report.logger import GROUPS, LOGGERS, MIXERS, TensorBoard, grouped, run_id
from processor.report.pictures import confusion_picture, table_picture
from processor.run_folder import MetricsLog, RunFolder
from shapmix import ShapMix
from tests.conftest import write_ucla

SMALL, PLUGIN = {"model": "tests.small.Model", "model_args": None}, ("--plugin", "tests")
MIXERS_OWN = {"guidance", "guidance_many", "guidance_medium", "guidance_few"}


def events(folder: Path) -> list[Event]:
    """What lies in TensorBoard's files, in the order of writing; a record is length, checksum, data, checksum."""
    found = []
    for file in sorted(folder.iterdir()):
        assert file.is_file(), "no run within the run"
        data, place = file.read_bytes(), 0
        while place < len(data):
            length = int.from_bytes(data[place : place + 8], "little")
            found.append(Event.FromString(data[place + 12 : place + 12 + length]))
            place += length + 16
        assert place == len(data), "whole"
    return found


def scalars(found: list[Event]) -> dict[tuple[str, int], float]:
    return {
        (value.tag, event.step): value.simple_value
        for event in found
        for value in event.summary.value
        if value.HasField("simple_value")
    }


def test_every_metric_has_a_group(write_config, tmp_path):
    """Of a run with a validation split, averaged weights, a temperature and a guided mixer."""
    folder = write_ucla(
        tmp_path / "all_sqe", **{f"a01_s02_e0{n}_v01": {"skeletons": [[[n, 1, 2]] * 20] * 5} for n in "123"}
    )
    path = write_config(
        feeder="feeders.feeder_ucla.Feeder",
        feeder_args={"data_path": str(folder), "window_size": 16, "val_subjects": [2]},
        train_feeder_args=None,
        test_feeder_args=None,
        average_weights="ema",
        fit_temperature=True,
        **SMALL,
    )
    assert main.main(["--config", path, *PLUGIN]) == 0
    lines = RunFolder(tmp_path / "run").read_metrics()
    names = {name for line in lines for name in line}
    assert {"val_few", "raw_top1", "val_top5", "temperature", "guidance"} <= names
    known = {name for group in GROUPS.values() for name in group} | MIXERS_OWN
    bare = {name.removeprefix("raw_").removeprefix("val_") for name in names}
    assert bare - known <= {"epoch", "per_class", "top1", "top5"}
    groups = {name: group for group, _, name in (key.partition("/") for key in grouped(lines[-1]))}
    assert {name for name, group in groups.items() if group == MIXERS} <= MIXERS_OWN
    assert (groups["val_top1"], groups["raw_few"], groups["samples_per_s"]) == ("accuracy", "group", "speed")


def test_tensorboard_of_a_run(write_config, tmp_path):
    """Numbers of each epoch, pictures of the last evaluation, hyper-parameters with the final figures; one folder."""
    assert main.main(["--config", write_config(logger="tensorboard", **SMALL), *PLUGIN]) == 0
    run = tmp_path / "run"
    found = events(run / "tensorboard")
    lines = RunFolder(run).read_metrics()
    wanted = {(name, line["epoch"]): value for line in lines for name, value in grouped(line).items()}
    assert scalars(found) == {key: pytest.approx(value, rel=1e-6) for key, value in wanted.items()}
    values = {value.tag: value for event in found for value in event.summary.value}
    images = {tag for tag, value in values.items() if value.HasField("image")}
    assert images == {f"pictures/{name}" for name in ("confusion", "saliency_table", "mixed_samples")}
    assert all(values[tag].image.encoded_image_string.startswith(b"\x89PNG") for tag in images)
    plugin = values["_hparams_/session_start_info"].metadata.plugin_data
    given = HParamsPluginData.FromString(plugin.content).session_start_info.hparams
    assert given["base_lr"].number_value == 0.1
    assert json.loads(given["train_feeder_args"].string_value) == {"n_max": 8, "imbalance": 4}
    plugin = values["_hparams_/experiment"].metadata.plugin_data
    infos = HParamsPluginData.FromString(plugin.content).experiment.metric_infos
    assert {info.name.tag for info in infos} == set(grouped(lines[-1]))


def test_the_same_weights_with_any_logger(write_config, tmp_path, monkeypatch):
    """Pictures at every evaluation change nothing, also where samples are mixed between two epochs."""
    monkeypatch.setattr(monitor, "SHARE", 1e9)
    weights = []
    for name in ("none", "tensorboard"):
        assert main.main(["--config", write_config(logger=name, **SMALL), *PLUGIN, "--overwrite"]) == 0
        weights.append(torch.load(tmp_path / "run" / "last.pt", weights_only=True))
    steps = {event.step for event in events(tmp_path / "run" / "tensorboard") if "pictures" in str(event.summary)[:40]}
    assert steps == {0, 1}
    for key, value in weights[0]["model"].items():
        assert torch.equal(value, weights[1]["model"][key])
    assert torch.equal(weights[0]["mixer"]["saliency.table"], weights[1]["mixer"]["saliency.table"])


def test_resumption_purges(tmp_path):
    """What was written of epochs that are trained again is marked as superseded."""
    first = TensorBoard(tmp_path, 0, {})
    for epoch in range(3):
        first.scalars({"accuracy/top1": epoch / 10}, epoch)
    second = TensorBoard(tmp_path, 2, {})
    second.scalars({"accuracy/top1": 0.9}, 2)
    second.close()
    found = events(tmp_path / "tensorboard")
    assert [event.step for event in found if event.HasField("session_log")] == [0, 2]
    assert [event.step for event in found if event.HasField("summary")] == [0, 1, 2, 2]


def test_a_disk_that_is_full_ends_no_run(write_config, tmp_path, monkeypatch, caplog):
    """Writing one event fails: no more of them, a warning at once and one at the end; the figures are whole."""
    write, calls = RecordWriter.write, []

    def failing(self, data):
        calls.append(data)
        if len(calls) == 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, data)

    monkeypatch.setattr(RecordWriter, "write", failing)
    assert main.main(["--config", write_config(logger="tensorboard", num_epoch=3, **SMALL), *PLUGIN]) == 0
    assert len(calls) == 12
    assert len(RunFolder(tmp_path / "run").read_metrics()) == 3
    said = [line.getMessage() for line in caplog.records if "TensorBoard" in line.getMessage() and line.levelno > 20]
    assert ["failed (" in text for text in said] == [True, False], said
    assert all("No space left on device" in text for text in said)


def test_pictures_take_a_share_of_the_time(monkeypatch):
    """The last evaluation's are always made; others where they are expected to stay below the share."""
    clock = SimpleNamespace(now=0.0)
    made = []
    monkeypatch.setattr(monitor, "monotonic", lambda: clock.now)
    logger = SimpleNamespace(keeps=True, images=lambda images, epoch: made.append(epoch))
    watch = monitor.Monitor(None, None, None, logger)

    def pictures(epoch, logits):
        clock.now += 2.0
        return {}

    monkeypatch.setattr(watch, "pictures", pictures)
    for epoch in range(10):
        clock.now = 40.0 * (epoch + 1)
        watch.evaluated(epoch, np.zeros(0), last=epoch == 9)
    assert made == [1, 4, 7, 9], "2 s each, of 80, 200, 320 and 400"
    assert watch.spent == 8
    watch.logger = module.Logger(Path(), 0, {})
    watch.evaluated(10, np.zeros(0), last=True)
    assert watch.spent == 8


class StandIn(ModuleType):
    """A package with the calls of wandb and trackio that are used here; it notes them."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple] = []
        self.summary: dict[str, float] = {}

    def init(self, **options):
        self.calls.append(("init", options))
        return self

    def log(self, values, step):
        self.calls.append(("log", step, values))

    def finish(self):
        self.calls.append(("finish",))

    def Image(self, image):
        return image.shape


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_services(tmp_path, monkeypatch, name):
    """One run, which a resumed run goes on with; numbers by epoch, pictures, settings, and the final figures."""
    service = StandIn(name)
    monkeypatch.setitem(sys.modules, name, service)
    begun = []
    for first_epoch in (0, 1):
        logger = LOGGERS[name](tmp_path, first_epoch, {"batch_size": 8, "model_args": {"base_channel": 4}})
        record = MetricsLog(RunFolder(tmp_path), first_epoch, logger)
        record.add({"epoch": first_epoch, "top1": 0.5, "per_class": [0.5], "many": None})
        logger.images({"pictures/confusion": np.zeros((2, 3, 3), np.uint8)}, first_epoch)
        logger.results({"accuracy/top1": 0.5})
        record.close()
        (_, options), *logged, last = service.calls[4 * first_epoch :]
        begun.append(options)
        assert (options["project"], options["resume"]) == ("shapmix", "allow")
        assert options["config"] == {"batch_size": 8, "model_args": '{"base_channel": 4}'}
        assert run_id(tmp_path) in (options.get("id"), options["name"].rpartition("_")[2])
        assert name == "wandb" or "/" not in options["name"]
        assert logged == [
            ("log", first_epoch, {"accuracy/top1": 0.5}),
            ("log", first_epoch, {"pictures/confusion": (2, 3, 3)}),
        ]
        assert last == ("finish",)
    assert begun[0] == begun[1]
    assert service.summary == ({"accuracy/top1": 0.5} if name == "wandb" else {})
    own = run_id(tmp_path)
    RunFolder(tmp_path).clear()
    assert run_id(tmp_path) != own, "a run that replaces another one"
    assert not (tmp_path / "tensorboard").exists()


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_service_that_is_missing(write_config, tmp_path, monkeypatch, capsys, name):
    monkeypatch.setitem(sys.modules, name, None)
    assert main.main(["--config", write_config(logger=name)]) == 2
    error = capsys.readouterr().err
    assert f"logger: {name} is not installed" in error
    assert f"pip install {name}" in error
    assert not (tmp_path / "run").exists(), "nothing was begun"


def test_a_service_that_refuses(write_config, monkeypatch, capsys):
    service = StandIn("wandb")
    monkeypatch.setattr(service, "init", lambda **options: 1 / 0, raising=False)
    monkeypatch.setitem(sys.modules, "wandb", service)
    assert main.main(["--config", write_config(logger="wandb")]) == 2
    assert "logger: wandb cannot begin a run (division by zero)" in capsys.readouterr().err


def test_the_key():
    """All loggers can be named; another one is the same run."""
    assert set(get_args(Config.model_fields["logger"].annotation)) == set(LOGGERS)
    assert "logger" in NOT_IDENTITY


def test_pictures_of_many_classes():
    """At least two pixels for each; odd names are shown as they are; a class without samples is an empty row."""
    labels = np.arange(1, 300)
    names = [f"class {label}" for label in range(300)]
    picture = confusion_picture(labels, labels, names, list(range(300)))
    assert picture.dtype == np.uint8
    assert min(picture.shape[:2]) >= 2 * 300
    few = confusion_picture(np.array([0, 1]), np.array([1, 1]), ["$x^", "<b>_{", "c"], [3, 2, 0])
    assert few.shape[2] == 3
    mixer = ShapMix("ntu25", [5, 3, 2])
    assert table_picture(mixer.saliency, ["a", "b", "c"], [5, 3, 2], mixer.layout.part_names).ndim == 3
