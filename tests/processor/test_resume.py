"""A run that is killed or stopped at any moment and started again ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml

import main
from feeders.files import sealed, unsealed
from processor.build import build
from processor.checkpoint import load_checkpoint, save_checkpoint
from processor.config_files import load_config
from processor.data import load_data
from processor.host import StopSignals
from processor.run_folder import RunFolder
from processor.scores import read_scores
from processor.training import Training
from tests import as_on_cuda
from tests.conftest import tiny_config
from tools.faults.process import Command, Fuse, Started
from tools.faults.runs import difference, result

EPOCHS = 5
# (what is being done, how often it was begun in that process): 3 steps an epoch, last.pt after every second step
KILLS = [("step", 2), ("step", 5), ("metrics", 1), ("checkpoint", 2), ("evaluation", 2), ("save", 2)]


QUICK = {  # every option for speed
    "model": "tests.small.Model",
    "precision": "bf16",
    "compile": True,
    "device_resident": True,
    "mixing_args": {"estimate_interval": 2, "estimate_fraction": 0.4},
}


def run_config(folder: Path, **options: object) -> str:
    """A tiny run with dropout and everything else that could make a resumed run differ."""
    values = tiny_config(folder, num_epoch=EPOCHS, save_steps=2, schedule="cosine", **options)
    values["model_args"] = {"drop_out": 0.3} if "model" in options else {"base_channel": 4, "drop_out": 0.3}
    values["train_feeder_args"] = {"n_max": 6, "imbalance": 6}
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Here and in the processes that are started: runs that are compared have the same number."""
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def start(folder: Path, blown: Fuse | None = None, words: tuple[str, ...] = (), **options: object) -> Started:
    """The run in a process of its own; with options for speed, as on a GPU."""
    folder.mkdir(exist_ok=True)
    words = ("--config", run_config(folder, **options), "--plugin", "tests", *words)
    return Command("main", words, folder, before=as_on_cuda.pretend if options else None).start(blown)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    started = start(folder)
    assert started.wait() == 0, started.text
    return result(folder / "run")


@pytest.mark.parametrize(("kills", "options"), [(KILLS, {}), ([("step", 5), ("evaluation", 1)], QUICK)])
def test_killed_at_any_moment(tmp_path, undisturbed, kills, options):
    """The second of two steps is saved; with all options for speed it is also the one whose losses are read."""
    whole = start(tmp_path / "whole", **options) if options else None
    for moment, number in kills:
        killed = start(tmp_path / "killed", Fuse(moment, number), **options)
        assert killed.wait() == -signal.SIGKILL, (moment, killed.text)
    last = start(tmp_path / "killed", **options)
    assert last.wait() == 0, last.text
    ours = result(tmp_path / "killed" / "run")
    assert [line["epoch"] for line in ours["metrics"]] == list(range(EPOCHS))
    assert whole is None or whole.wait() == 0
    assert difference(ours, undisturbed if whole is None else result(tmp_path / "whole" / "run")) is None


def test_what_the_comparison_sees(tmp_path, write_config):
    """A run's config and scores, and a best.pt that is not of the best line."""
    quick = {"model": "tests.small.Model", "model_args": None, "mixing": "none", "save_interval": 1, "save_epoch": 0}
    assert main.main(["--plugin", "tests", "--config", write_config(**quick, num_epoch=2)]) == 0
    folder = RunFolder(tmp_path / "run")
    whole = result(folder.path)
    file = read_scores(folder.scores())
    file.scores[0, 0] += 1
    file.write(folder.scores())
    assert difference(result(folder.path), whole) == ".scores.scores[0][0]"
    state = load_checkpoint(folder.last)
    save_checkpoint(folder.last, {**state, "config": {**state["config"], "seed": 7}})
    assert difference(result(folder.path), whole) == ".checkpoints.last.pt.config.seed"
    other = 1 - load_checkpoint(folder.best)["best"]["epoch"]
    shutil.copy(folder.checkpoint(f"epoch_{other}"), folder.best)
    with pytest.raises(ValueError, match=r"best in epoch|is of epoch"):
        result(folder.path)
    folder.scores().unlink()
    with pytest.raises(ValueError, match=r"scores_test.npz"):
        result(folder.path)


def test_stopped_in_evaluation_and_between_steps(tmp_path, undisturbed, monkeypatch):
    path = run_config(tmp_path)
    calls = 0
    check = StopSignals.check

    def check_signal(self):
        nonlocal calls
        calls += 1
        if calls == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        check(self)

    monkeypatch.setattr(StopSignals, "check", check_signal)
    assert main.main(["--config", path]) == 143
    state = load_checkpoint(tmp_path / "run" / "last.pt")
    assert (state["epoch"], state["meter"]["steps"]) == (0, 3)

    after = Training.after_reading

    def after_reading(self):
        if (self.epoch, self.meter.steps) == (2, 1):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        after(self)

    monkeypatch.setattr(Training, "after_reading", after_reading)
    assert main.main(["--config", path]) == 130
    state = load_checkpoint(tmp_path / "run" / "last.pt")
    assert (state["epoch"], state["meter"]["steps"]) == (2, 1)
    monkeypatch.undo()
    assert main.main(["--config", path]) == 0
    assert difference(result(tmp_path / "run"), undisturbed) is None


def test_sigterm_from_outside(tmp_path):
    run = start(tmp_path, words=("--num_epoch", "1000"))
    while "epoch   1" not in run.text:
        assert run.wait(0.02) is None, run.text
    run.process.terminate()
    assert run.wait() == 143
    assert "the same command continues" in run.text
    assert load_checkpoint(tmp_path / "run" / "last.pt")["epoch"] >= 1


def test_a_finished_run_stays(tmp_path, capsys):
    path = run_config(tmp_path)
    assert main.main(["--config", path, "--num_epoch", "1"]) == 0
    before = (tmp_path / "run" / "last.pt").read_bytes()
    capsys.readouterr()
    assert main.main(["--config", path, "--num_epoch", "1"]) == 0
    assert "holds this run, finished" in capsys.readouterr().out
    assert (tmp_path / "run" / "last.pt").read_bytes() == before
    for name in ("scores_test.npz", "metrics.jsonl", "best.pt"):
        (tmp_path / "run" / name).unlink()
    assert main.main(["--config", path, "--num_epoch", "1"]) == 0
    printed = capsys.readouterr().out
    last = tmp_path / "run" / "last.pt"
    assert f"scores_test.npz is missing: the same command with --phase test --weights {last} writes" in printed
    assert "metrics.jsonl: missing: epochs 0; nothing but training again (--overwrite) makes it" in printed
    assert "best.pt is missing, of epoch 0; nothing but" in printed


@pytest.mark.parametrize("problem", ["is missing", "is damaged"])
def test_a_best_checkpoint_that_is_gone(problem, write_config, tmp_path, caplog):
    quick = {"model": "tests.small.Model", "model_args": None, "mixing": "none", "save_interval": 1, "save_epoch": 0}
    words, folder = ["--plugin", "tests", "--config", write_config(**quick, num_epoch=3)], RunFolder(tmp_path / "run")
    assert main.main(words) == 0
    if problem == "is damaged":
        folder.best.write_bytes(folder.best.read_bytes()[:-100])
        assert main.main(words) == 0
        assert f"{folder.best} is damaged, of epoch " in caplog.text
        caplog.clear()
    else:
        folder.best.unlink()
    shutil.copy(folder.checkpoint("epoch_1"), folder.last)  # as if it had been killed after the second epoch
    assert main.main(words) == 0
    assert f"{folder.best} {problem}, of epoch " in caplog.text
    assert load_checkpoint(folder.best)["best"] == load_checkpoint(folder.last)["best"]
    assert load_checkpoint(folder.best)["best"]["epoch"] == 2


def test_the_device_decides_how_weights_are_updated(tmp_path, monkeypatch):
    """A checkpoint says how the optimiser ran where it was saved; a run that goes on elsewhere does as suits it."""
    path = run_config(tmp_path)
    assert main.main(["--config", path, "--num_epoch", "1"]) == 0
    state = load_checkpoint(tmp_path / "run" / "last.pt")
    config = load_config(path)
    state["optimizer"]["param_groups"][0]["fused"] = True
    device = torch.device("cpu")
    data = load_data(config, device)
    training = Training(config, RunFolder(config.work_dir), data, build(config, data, device, state), device, state)
    assert training.epoch == 1
    assert training.parts.optimizer.param_groups[0]["fused"] is None


def test_more_epochs(write_config, tmp_path, capsys):
    """A finished run is extended where its checkpoint is named; with the step schedule as if it had been so long."""
    keys = {"model": "tests.small.Model", "model_args": None, "mixing": "none"}
    words = ["--plugin", "tests", "--config"]
    assert main.main([*words, write_config(**keys, num_epoch=3, work_dir=str(tmp_path / "whole"))]) == 0
    config, last = write_config(**keys, num_epoch=2), tmp_path / "run" / "last.pt"
    assert main.main([*words, config]) == 0
    capsys.readouterr()
    assert main.main([*words, config, "--num_epoch", "3"]) == 2
    message = capsys.readouterr().err
    assert f"--resume {last} --num_epoch 3 or more extends it; --weights {last} --work_dir NEW trains on" in message
    assert main.main([*words, config, "--num_epoch", "3", "--base_lr", "0.01", "--resume", str(last)]) == 2
    message = capsys.readouterr().err
    assert "other base_lr, num_epoch" in message
    assert "--weights" in message
    assert main.main([*words, config, "--num_epoch", "1", "--resume", str(last)]) == 2
    assert main.main([*words, config, "--num_epoch", "3", "--resume", str(last)]) == 0
    assert "a run of 2 epochs now has 3. Its schedule (step, reweight_from)" in capsys.readouterr().out
    ours, theirs = (load_checkpoint(tmp_path / run / "last.pt")["model"] for run in ("run", "whole"))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert main.main([*words, config, "--num_epoch", "3"]) == 0, "from now on it is a run of 3 epochs"


def test_an_extension_in_another_folder_goes_on(write_config, tmp_path, capsys):
    """The same command, with --resume OTHER, continues what it finds in its own folder; in one folder it goes back."""
    keys = {"model": "tests.small.Model", "model_args": None, "mixing": "none", "save_interval": 1, "save_epoch": 0}
    words, last = ["--plugin", "tests", "--config"], tmp_path / "run" / "last.pt"
    assert main.main([*words, write_config(**keys, num_epoch=1)]) == 0
    words += [write_config(**keys, num_epoch=4), "--work_dir", str(tmp_path / "longer"), "--resume", str(last)]
    assert main.main(words) == 0
    (tmp_path / "longer" / "last.pt").write_bytes((tmp_path / "longer" / "epoch_2.pt").read_bytes())  # killed after it
    capsys.readouterr()
    assert main.main(words) == 0
    assert "the run continues from there" in (printed := capsys.readouterr().out)
    assert "epoch   3" in printed
    assert "epoch   2" not in printed
    assert main.main([*words[:-1], str(tmp_path / "longer" / "epoch_1.pt")]) == 0
    assert "epoch   2" in capsys.readouterr().out


def test_lines_of_the_metrics_that_are_gone(write_config, tmp_path, caplog):
    """Of a run that goes on, also under a checkpoint that does not say which lines there were."""
    quick = {"model": "tests.small.Model", "model_args": None, "mixing": "none", "save_interval": 1, "save_epoch": 0}
    words = ["--plugin", "tests", "--config", write_config(**quick, num_epoch=4)]
    assert main.main(words) == 0
    folder = RunFolder(tmp_path / "run")
    lines = folder.metrics.read_text().splitlines(keepends=True)
    state = load_checkpoint(folder.checkpoint("epoch_2"))
    del state["metrics"]
    for changed, saved, wanted in [
        (lines, None, ""),
        (lines[:1], None, "metrics.jsonl: missing: epochs 1 to 2"),
        (lines[:1], state, "metrics.jsonl: missing: epochs 1 to 2"),
        ([*lines, lines[0]], None, "metrics.jsonl: more than once: epochs 0"),
        ([of_another_run(lines[0]), *lines[1:]], None, "metrics.jsonl: changed or of another run: epochs 0"),
    ]:
        folder.metrics.write_text("".join(changed))
        shutil.copy(folder.checkpoint("epoch_2"), folder.last)  # as if it had been killed after the third epoch
        if saved:
            save_checkpoint(folder.last, saved)
        caplog.clear()
        assert main.main(words) == 0
        assert [one.getMessage() for one in caplog.records if "metrics.jsonl: " in one.getMessage()] == [
            f"{folder.path}/{wanted}"
        ] * bool(wanted)
        assert [line["epoch"] for line in folder.read_metrics()][-1] == 3


def of_another_run(line: str) -> str:
    return json.dumps(sealed({**unsealed(json.loads(line)), "lr": 0.7})) + "\n"


def test_extended_cosine(write_config, caplog):
    keys = {"model": "tests.small.Model", "model_args": None, "mixing": "none", "schedule": "cosine", "base_lr": 0.2}
    path = write_config(**keys, num_epoch=2)
    assert main.main(["--config", path, "--plugin", "tests"]) == 0
    last = str(Path(path).parent / "run" / "last.pt")
    assert main.main(["--config", path, "--plugin", "tests", "--num_epoch", "4", "--resume", last]) == 0
    assert "the learning rate goes on with 0.1, not 0.0002" in caplog.text
