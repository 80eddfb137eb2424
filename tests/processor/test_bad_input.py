"""Bad input: a clear message that names file, key or sample, exit code 2, and nothing lost."""

from __future__ import annotations

import math
import os
import sys

import pytest
import torch

import main
import processor
from feeders import files
from feeders.files import WriteError
from feeders.loader import StoreLoader
from feeders.synthetic import Feeder
from model.ctrgcn import Model
from processor.checkpoint import load_checkpoint, save_checkpoint
from tests.conftest import write_ucla


def fails(capsys, words, *wanted):
    """Runs main, wants exit code 2 and a message with every one of ``wanted``."""
    assert main.main(words) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: "), message
    for text in wanted:
        assert text in message, message


@pytest.fixture
def trained(write_config):
    """A finished tiny run: (path of its config, its work_dir)."""
    path = write_config(num_epoch=1, mixing="none")
    assert main.main(["--config", path]) == 0
    return path


# --- configuration ---------------------------------------------------------------------------------------------------


def test_config_missing(capsys, tmp_path):
    (tmp_path / "there.yaml").write_text("a: 1")
    fails(capsys, ["--config", str(tmp_path / "absent.yaml")], "absent.yaml does not exist", "there.yaml")


def test_config_not_yaml(capsys, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("a: [1, 2\nb: }")
    fails(capsys, ["--config", str(path)], "bad.yaml cannot be read as YAML: line 2")
    path.write_text("just words")
    fails(capsys, ["--config", str(path)], "must hold 'key: value' lines")
    for text, key in (("?\n: 3", "None"), ("1: 2", "1"), ("true: 2", "True")):  # the first: tools.faults.guided
        path.write_text(f"feeder: feeders.synthetic.Feeder\n{text}\n")
        fails(capsys, ["--config", str(path)], f"bad.yaml: the key {key} is no text")


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"base_lrr": 0.1}, ["unknown key base_lrr", "did you mean base_lr?"]),
        ({"base_lr": "fast"}, ["base_lr", "valid number", "'fast'"]),
        ({"num_epoch": -1}, ["num_epoch", "greater than or equal to 0"]),
        ({"optimizer": "Adamm"}, ["optimizer", "'SGD', 'Adam' or 'AdamW'"]),
        ({"layout": "ucla20"}, ["layout: feeders.synthetic.Feeder has its own, 'ntu25'; leave layout out"]),
        ({"groups": {"may": 3}}, ["unknown key groups.may", "did you mean many?"]),
        ({"feeder": None}, ["key feeder is missing"]),
        ({"feeder": "os.path.Feeder"}, ["'os.path.Feeder' is outside feeders, model, shapmix", "--plugin os"]),
        ({"feeder": "feeders.nothing.Feeder"}, ["feeders.nothing"]),
        ({"feeder": "feeders.synthetic.Feder"}, ["has no 'Feder'"]),
        ({"feeder": "feeders.synthetic.synthesize"}, ["is not a class of feeders, model, shapmix"]),
        ({"model": "torch.nn.Linear"}, ["run.yaml: model: class path 'torch.nn.Linear' is outside"]),
        ({"train_feeder_args": {"n_maxx": 3}}, ["unknown key train_feeder_args.n_maxx", "did you mean n_max?"]),
        ({"train_feeder_args": {"n_max": "many"}}, ["train_feeder_args.n_max", "valid integer", "'many'"]),
        ({"model_args": {"base_chanel": 8}}, ["unknown key model_args.base_chanel", "did you mean base_channel?"]),
        ({"model_args": {"base_channel": 6}}, ["base_channel must be a multiple of 4, got 6"]),
        ({"model_args": {"num_class": 10}}, ["model_args.num_class is 10, but the data has 12"]),
        ({"model_args": {"layout": "coco17"}}, ["model_args.layout is 'coco17'"]),
        ({"mixing_args": {"seed": 3}}, ["unknown key mixing_args.seed"]),
        ({"mixing_args": {"input_format": "NMTVC"}}, ["unknown key mixing_args.input_format"]),
        ({"mixing_args": {"temperature": 0.0}}, ["mixing_args", "temperature must be above 0"]),
        ({"mixing_args": {"window": [1, 99]}}, ["window", "does not fit 16 frames"]),
        ({"feeder_args": {"stream": "bones"}}, ["stream must be one of joint, bone"]),
        ({"test_feeder_args": {"stream": "bone"}}, ["different streams"]),
        ({"plugins": ["os"]}, ["only be named on the command line"]),
        ({"phase": "test"}, ["--weights FILE"]),
        ({"device": "cuda:7"}, ["device"]),
        ({"work_dir": ""}, ["run.yaml: work_dir is an empty text", "leave it out for work_dir/run"]),
        ({"work_dir": "a\0b"}, ["run.yaml: work_dir: a text has no NUL characters"]),
        ({"base_lr": 1e308}, ["run.yaml: base_lr: a number is at most 3.403e+38"]),
        (
            {"mixing_args": {"window": [1, 2**63]}},
            ["run.yaml: mixing_args.window.1: a whole number has at most 64 bits"],
        ),
        ({"feeder_args": {"window_size": 10**21}}, ["feeder_args.window_size: a whole number has at most 64 bits"]),
        ({"feeder_args": {"window_size": 2**62}}, ["memory ran out"]),
        ({"test_batch_size": 10**30}, ["run.yaml: test_batch_size: a whole number has at most 64 bits"]),
        ({"train_feeder_args": {"n_max": 10**12}}, ["n_max and num_test may be 100,000 samples"]),
    ],
)
def test_config_keys(capsys, write_config, changes, wanted):
    fails(capsys, ["--config", write_config(**changes)], *wanted)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--set", "seed=" + "9" * 5000], "--set seed: the value '99"),
        (["--num_epoch", "9" * 5000], "a whole number of 5000 characters"),
        (["--base_lr", "fast"], "error: --base_lr: Input should be a valid number"),
        (["--set", "groups.many=-1"], "error: --groups.many: Input should be"),
        (["--weights", "/dev/zero", "--phase", "test"], "/dev/zero is a device"),
    ],
)
def test_options_are_named(capsys, write_config, words, wanted):
    fails(capsys, ["--config", write_config(), *words], wanted)


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
def test_pipes_in_the_place_of_files(capsys, write_config, tmp_path):
    """Nobody writes to them or reads them: they are refused, without waiting."""
    os.mkfifo(tmp_path / "pipe.yaml")
    fails(capsys, ["--config", str(tmp_path / "pipe.yaml")], "pipe.yaml is a pipe")
    (tmp_path / "run").mkdir()
    os.mkfifo(tmp_path / "run" / "log.txt")
    fails(capsys, ["--config", write_config()], "run/log.txt is a pipe")


def test_a_folder_that_was_deleted(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SystemExit, match="2"):
        processor.begin()
    assert "error: the current folder was deleted" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--work_dir", ""], ["--work_dir="]])
def test_a_shell_variable_that_is_not_set(capsys, write_config, words):
    with pytest.raises(SystemExit, match="2"):
        main.main(["--config", write_config(), *words])
    assert "error: empty text after --work_dir" in capsys.readouterr().err


def test_set_needs_a_value(capsys, write_config):
    fails(capsys, ["--config", write_config(), "--set", "base_lr"], "write KEY=VALUE")


# --- data ------------------------------------------------------------------------------------------------------------

UCLA = {"feeder": "feeders.feeder_ucla.Feeder", "train_feeder_args": {}, "test_feeder_args": {}}


def ucla_config(write_config, folder, **changes):
    return write_config(
        **{**UCLA, "feeder_args": {"data_path": str(folder), "window_size": 16}, "mixing": "none", **changes}
    )


def test_data_folder(capsys, write_config, tmp_path):
    fails(capsys, ["--config", ucla_config(write_config, tmp_path / "absent")], "absent does not exist", "data_path")
    (tmp_path / "empty").mkdir()
    fails(capsys, ["--config", ucla_config(write_config, tmp_path / "empty")], "empty has no .json files")


NAN = '{"skeletons": [' + str([[math.nan, 0, 0]] * 20).replace("nan", "NaN") + "]}"


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ('{"skeletons": [[', "is not JSON"),
        ({"frames": []}, "has no 'skeletons'"),
        ({"skeletons": [[[0, 0, 0]] * 25]}, "frames of shape (25, 3), wanted 20 joints"),
        ({"skeletons": [[[0, 0]] * 20]}, "frames of shape (20, 2), wanted 20 joints"),
        ({"skeletons": [[[0, 0, 0]] * 20, [[0, 0, 0]]]}, "cannot be read as frames of 20 joints"),
        (NAN, "has NaN or infinite coordinates"),
        (NAN.replace("NaN", "Infinity"), "has NaN or infinite coordinates"),
        ({"skeletons": []}, "has 0 frames"),
        ("[]", "cannot be read as frames"),
    ],
)
def test_bad_sequence(capsys, write_config, tmp_path, content, wanted):
    folder = write_ucla(tmp_path / "all_sqe", a01_s02_e00_v01=content)
    path = ucla_config(write_config, folder, num_epoch=1)
    fails(capsys, ["--config", path], "a01_s02_e00_v01", wanted, "on_bad_sample: skip")
    assert main.main(["--config", path, "--train_feeder_args", "on_bad_sample=skip", "--overwrite"]) == 0
    log = capsys.readouterr().out
    assert "left out 1 of 21 training samples: a01_s02_e00_v01" in log
    assert "20 training samples" in log


def test_bad_test_sequence_is_never_skipped(capsys, write_config, tmp_path):
    folder = write_ucla(tmp_path / "all_sqe", a01_s02_e00_v03={"skeletons": []})
    words = ["--config", ucla_config(write_config, folder), "--set", "feeder_args.on_bad_sample=skip"]
    fails(capsys, words, "1 test sample(s) cannot be used: a01_s02_e00_v03 has 0 frames")


def test_bad_file_name(capsys, write_config, tmp_path):
    folder = write_ucla(tmp_path / "all_sqe", a07_s01_e00_v01={"skeletons": []})
    fails(
        capsys, ["--config", ucla_config(write_config, folder)], "a07_s01_e00_v01.json", "name must be aAA_sSS_eEE_vVV"
    )


def test_mended_data_is_read_anew(write_config, tmp_path, capsys):
    folder = write_ucla(tmp_path / "all_sqe", a01_s02_e00_v01="{")
    path = ucla_config(write_config, folder, num_epoch=1)
    fails(capsys, ["--config", path], "a01_s02_e00_v01")
    (folder / "a01_s02_e00_v01.json").write_text((folder / "a01_s01_e00_v01.json").read_text())
    assert main.main(["--config", path]) == 0


def test_long_tail_that_the_data_cannot_give(capsys, write_config, tmp_path):
    folder = write_ucla(tmp_path / "all_sqe")
    path = ucla_config(write_config, folder, train_feeder_args={"long_tail": {"n_max": 100}})
    fails(capsys, ["--config", path], "class 0 has 2 samples, 100 are asked for")
    path = ucla_config(write_config, folder, train_feeder_args={"long_tail": {"n_min": 1}})
    fails(capsys, ["--config", path], "long_tail: unknown keys ['n_min']")


def test_label_outside_the_classes(tmp_path):
    feeder = Feeder("test", num_test=1, cache_dir=str(tmp_path))
    feeder.class_names = feeder.class_names[:11]
    with pytest.raises(ValueError, match=r"wave_left_0000 has label 11, outside the classes 0\.\.10"):
        StoreLoader(feeder, 8, 0, torch.device("cpu"))


def test_class_without_training_samples_is_a_warning(capsys, write_config, tmp_path):
    folder = write_ucla(tmp_path / "all_sqe")
    for view in (1, 2):
        (folder / f"a12_s01_e00_v0{view}.json").unlink()
    path = ucla_config(write_config, folder, mixing="shap_mix")
    assert main.main(["--config", path]) == 0
    log = capsys.readouterr().out
    assert "1 classes have no training samples: ['carry']" in log
    assert "nan" not in log.lower()


# --- checkpoints and runs --------------------------------------------------------------------------------------------


def test_checkpoint_missing_truncated_or_foreign(capsys, trained, tmp_path):
    def test_phase(file):
        return ["--config", trained, "--phase", "test", "--weights", str(file), "--work_dir", str(tmp_path / "test")]

    fails(capsys, test_phase(tmp_path / "absent.pt"), "absent.pt does not exist")
    whole = (tmp_path / "run" / "last.pt").read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.pt").write_bytes(whole[:size])
        fails(capsys, test_phase(tmp_path / "cut.pt"), "cut.pt")
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "object.pt")
    fails(capsys, test_phase(tmp_path / "object.pt"), "object.pt holds more than tensors")
    torch.save([1, 2], tmp_path / "list.pt")
    fails(capsys, test_phase(tmp_path / "list.pt"), "list.pt holds a list")
    state = load_checkpoint(tmp_path / "run" / "last.pt")["model"]
    torch.save({**state, "fc.weight": torch.zeros(60, 16)}, tmp_path / "other.pt")
    fails(
        capsys, test_phase(tmp_path / "other.pt"), "other.pt is of another network (class count", "fc.weight: (60, 16)"
    )
    torch.save({"unrelated": torch.zeros(1)}, tmp_path / "alien.pt")
    fails(capsys, test_phase(tmp_path / "alien.pt"), "has no weight of this network")


def test_resume_from_what_is_no_run(capsys, trained, write_config, tmp_path):
    torch.save(load_checkpoint(tmp_path / "run" / "last.pt")["model"], tmp_path / "bare.pt")
    words = ["--config", trained, "--work_dir", str(tmp_path / "new"), "--resume", str(tmp_path / "bare.pt")]
    fails(capsys, words, "bare.pt is not a checkpoint of a run", "--weights")
    fails(capsys, [*words[:-1], str(tmp_path / "gone.pt")], "gone.pt does not exist")


def test_work_dir_of_another_run(capsys, trained, tmp_path):
    before = (tmp_path / "run" / "last.pt").read_bytes()
    words = ["--config", trained, "--base_lr", "0.05"]
    fails(capsys, words, "holds a finished run of another config (other base_lr)", "--overwrite")
    fails(capsys, ["--config", trained, "--resume", "none"], "resume is none", "--overwrite")
    assert (tmp_path / "run" / "last.pt").read_bytes() == before
    (tmp_path / "run" / "mine.txt").write_text("not the run's")
    assert main.main([*words, "--overwrite"]) == 0
    assert (tmp_path / "run" / "last.pt").read_bytes() != before
    assert (tmp_path / "run" / "mine.txt").exists()


def test_overwrite_waits_until_everything_is_checked(capsys, trained, tmp_path):
    before = (tmp_path / "run" / "last.pt").read_bytes()
    fails(capsys, ["--config", trained, "--overwrite", "--weights", str(tmp_path / "absent.pt")], "absent.pt")
    fails(capsys, ["--config", trained, "--overwrite", "--set", "feeder_args.stream=bones"], "stream must be")
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


def test_resume_into_another_run(capsys, trained, tmp_path):
    other = tmp_path / "other"
    assert main.main(["--config", trained, "--work_dir", str(other), "--seed", "5"]) == 0
    before = (tmp_path / "run" / "last.pt").read_bytes()
    words = ["--config", trained, "--seed", "5", "--resume", str(other / "last.pt")]
    fails(capsys, words, "run/last.pt holds a finished run of another config (other seed)")
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


def test_data_that_changed_under_a_run(capsys, write_config, tmp_path):
    folder = write_ucla(tmp_path / "all_sqe")
    path = ucla_config(write_config, folder, num_epoch=2)
    assert main.main(["--config", path]) == 0
    state = load_checkpoint(tmp_path / "run" / "last.pt")
    save_checkpoint(tmp_path / "run" / "last.pt", {**state, "epoch": 1})
    write_ucla(folder, a01_s02_e00_v01={"skeletons": [[[1, 2, 3]] * 20] * 4})
    fails(capsys, ["--config", path], "the data has changed since", "--overwrite")


def test_validation_samples_in_training(capsys, write_config, tmp_path):
    folder = write_ucla(tmp_path / "all_sqe", a01_s02_e00_v01={"skeletons": [[[0.0] * 3] * 20]})
    path = ucla_config(write_config, folder, val_feeder_args={"split": "val", "val_subjects": [1]})
    fails(capsys, ["--config", path], "validation samples are in the training set too", "feeder_args")


def test_unwritable_work_dir(capsys, write_config, tmp_path):
    (tmp_path / "file").write_text("")
    fails(capsys, ["--config", write_config(), "--work_dir", str(tmp_path / "file" / "run")], "file/run")


def test_scores_not_finite(write_config, monkeypatch, capsys):
    monkeypatch.setattr(Model, "forward", lambda self, x: self.fc.weight.sum() * torch.full((len(x), 12), math.nan))
    words = ["--config", write_config(mixing="none"), "--phase", "test"]
    weights = write_config()[: -len("run.yaml")] + "weights.pt"
    torch.save(Model(12, "ntu25", 1, 3, 4).state_dict(), weights)
    fails(capsys, [*words, "--weights", weights], "scores are not finite for 24 samples: wave_right_0000")


def test_loss_not_finite(capsys, write_config, tmp_path, monkeypatch):
    path = write_config(num_epoch=3)
    assert main.main(["--config", path, "--set", "num_epoch=3", "save_steps=1"]) == 0
    words = ["--config", path, "--overwrite", "--base_lr", "1e30", "--save_steps", "1"]
    advice = f"last good checkpoint is kept: --weights {tmp_path / 'run' / 'last.pt'} --work_dir NEW"
    fails(capsys, words, "epoch 0, step", "the loss is not finite", "for samples", advice)
    state = load_checkpoint(tmp_path / "run" / "last.pt")
    assert state["epoch"] == 0
    assert all(value.isfinite().all() for value in state["model"].values() if value.is_floating_point())


def test_full_disk_keeps_the_previous_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", no_space)
    with pytest.raises(WriteError, match=r"last.pt could not be written \(No space left on device: [\d,]+ bytes are"):
        save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]
