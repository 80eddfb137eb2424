"""tools.sweep: what a sweep consists of, and that it trains what is missing, once, whatever happens on the way.

Scheduling is tested with a stand-in for main.py that takes no time; the last test trains.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from processor import command_line
from processor.checkpoint import file_checksum
from processor.config_files import load_config
from processor.errors import BUSY, ConfigError
from processor.methods import METHODS
from processor.run_folder import RunFolder
from processor.study import launch
from processor.study import plan as planning
from processor.study.launch import Launcher, duration, visible_gpus
from processor.study.plan import as_word, plan, table_commands
from tests.conftest import ROOT, tiny_config
from tools import sweep, table

STAND_IN = """
import argparse, json, os, signal, sys, time
from pathlib import Path
options = argparse.ArgumentParser()
for name in ("work_dir", "seed", "print_log"):
    options.add_argument("--" + name)
for name in ("config", "set"):
    options.add_argument("--" + name, nargs="+")
options.add_argument("--plugin", action="append")
arguments = options.parse_args()
folder = Path(arguments.work_dir)
visible = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")}
def tell(what):
    line = {"what": what, "label": "/".join(folder.parts[-2:]), "group": os.getpgrp(), **visible, **vars(arguments)}
    with open(os.environ["EVENTS"], "a") as file:
        file.write(json.dumps(line) + "\\n")
def stopped(*_):
    tell("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, stopped)
tell("begin")
kind = folder.parent.name
if kind == "bad":
    print("first line\\nerror: the loss is not finite")
    sys.exit(2)
if kind == "slow":
    time.sleep(100)
if kind == "raced" and not (folder / "raced").exists():
    (folder / "raced").touch()
    sys.exit(int(os.environ["BUSY"]))
time.sleep(0.2)
with open(folder / "metrics.jsonl", "w") as file:
    for epoch in range(2):
        file.write(json.dumps({"epoch": epoch, "top1": 0.5, "mean_class_accuracy": 0.25}) + "\\n")
for name in ("scores_test.npz", "last.pt"):
    (folder / name).touch()
tell("end")
"""


@pytest.fixture
def write(tmp_path):
    """Writes a sweep over a tiny recipe, with keys changed, and returns its path."""

    def write(**keys: object) -> Path:
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(yaml.safe_dump({**tiny_config(tmp_path, mixing="none"), "base_lr": 0.01}))
        values = {"config": str(recipe), "work_dir": str(tmp_path / "sweep"), "runs": {"first": None}, **keys}
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    return write


@pytest.fixture
def events(tmp_path, monkeypatch):
    """Puts the stand-in for main.py in its place; returns what was told so far."""
    script, path = tmp_path / "stand_in.py", tmp_path / "events.jsonl"
    script.write_text(STAND_IN)
    monkeypatch.setattr(planning, "MAIN", (str(script),))
    monkeypatch.setattr(launch, "POLL", 0.02)
    monkeypatch.setenv("EVENTS", str(path))
    monkeypatch.setenv("BUSY", str(BUSY))

    def read(what: str | None = None) -> list:
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        return lines if what is None else [line["label"] for line in lines if line["what"] == what]

    return read


# --- what a sweep consists of ----------------------------------------------------------------------------------------


def test_every_sweep_of_the_repository_loads():
    files = sorted((ROOT / "config" / "sweeps").glob("*.yaml"))
    assert files
    for file in files:
        jobs = plan(file.relative_to(ROOT))
        assert len({job.folder.path for job in jobs}) == len(jobs) > 1
        assert all(job.folder.path.is_relative_to(Path("work_dir", "sweeps", file.stem)) for job in jobs)


@pytest.mark.parametrize("name", ["demo", "ntu60_xsub_lt", "nw_ucla_lt", "nw_ucla_lt_small"])
def test_all_methods(name):
    """The rows of METHODS in their order; a second stage has the weights of its first stage."""
    path = Path("config", "sweeps", f"{name}.yaml")
    sweep = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
    wanted = {}
    for grid, settings in sweep.get("grid", {"": {}}).items():
        for method, row in METHODS.items():
            folder = f"work_dir/sweeps/{name}/{grid}/".replace("//", "/")
            own = {**settings.get("set", {}), "seed": 2, "work_dir": f"{folder}{method}/seed_2", "print_log": False}
            if row.starts_from is not None:
                own["weights"] = f"{folder}{row.starts_from}/seed_2/last.pt"
            wanted[f"{grid}/{method}/seed_2".strip("/")] = load_config(
                [sweep["config"], f"config/methods/{method}.yaml"], own
            )
    jobs = plan(path, seeds=[2])
    assert {job.label: job.config for job in jobs} == wanted
    assert [job.label for job in jobs] == list(wanted)
    assert all((job.needs is None) == (job.config.weights is None) for job in jobs)


def test_some_methods(write):
    """A list of methods comes before the other runs."""
    jobs = plan(write(methods=["post_hoc", "cross_entropy"], runs={"longer": {"set": {"num_epoch": 3}}}))
    assert [job.label for job in jobs] == ["post_hoc/seed_1", "cross_entropy/seed_1", "longer/seed_1"]
    assert jobs[0].needs == "cross_entropy/seed_1"
    assert jobs[0].config.post_hoc_tau == 1
    replaced = plan(write(methods=["focal", "ldam"], runs={"focal": {"set": {"base_lr": 0.5}}}))
    found = [(job.label, job.config.loss) for job in replaced]
    assert found == [("focal/seed_1", "logit_adjustment"), ("ldam/seed_1", "ldam")]
    assert replaced[0].config.base_lr == 0.5, "an entry of runs takes the place of a method"


def test_precedence(tmp_path, write):
    """Recipe < grid's file < the run's file < set < grid < the run's set < command line; each is seen in one key."""
    file, of_grid = tmp_path / "method.yaml", tmp_path / "set.yaml"
    keys = ["weight_decay", "base_lr", "tau", "momentum", "ema"]
    file.write_text(yaml.safe_dump(dict.fromkeys(keys, 0.1)))
    of_grid.write_text(yaml.safe_dump({"weight_decay": 0.05, "warm_up_epoch": 1}))
    path = write(
        set={**dict.fromkeys(keys[1:], 0.2), "groups": {"many": 50, "few": 3}},
        grid={"a": {"config": str(of_grid), "set": dict.fromkeys(keys[2:], 0.3)}, "b": {"set": {"groups.many": 60}}},
        runs={"first": {"config": str(file), "set": dict.fromkeys(keys[3:], 0.4)}, "plain": {}},
        seeds=[3, 1],
    )
    jobs = {job.label: job for job in plan(path, overrides={"ema": 0.5, "groups": {"many": 70}})}
    names = [f"{grid}/{name}/seed_{seed}" for seed in (3, 1) for grid in "ab" for name in ("first", "plain")]
    assert list(jobs) == names
    job = jobs["a/first/seed_3"]
    assert [getattr(job.config, key) for key in keys] == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert (job.config.seed, job.folder.path) == (3, tmp_path / "sweep" / "a" / "first" / "seed_3")
    assert jobs["b/plain/seed_1"].config.groups.model_dump() == {"many": 70, "few": 20}, "a later dict is the whole"
    assert plan(path)[2].config.groups.model_dump() == {"many": 60, "few": 3}
    assert [jobs[f"a/{name}/seed_1"].config.warm_up_epoch for name in ("first", "plain")] == [1, 1]
    assert jobs["a/plain/seed_1"].config.weight_decay == 0.05
    assert jobs["b/plain/seed_1"].config.weight_decay == load_config(str(tmp_path / "recipe.yaml")).weight_decay


def test_the_command_line_says_the_same(write):
    """Values survive as words: main.py resolves the config that was checked."""
    odd = {"base_lr": 1e-5, "train_feeder_args.n_max": 9, "model_args": {"base_channel": 4}, "step": [3, 5]}
    odd |= {"layout": None, "ignore_weights": ["null", "a: b", "1", "é # c", "-x", ""], "nesterov": False}
    (job,) = plan(write(set=odd), plugins=["tests"])
    arguments = command_line.parser().parse_args(job.command(["tests"])[3:])
    config = load_config(arguments.config, command_line.overrides(arguments), arguments.plugin)
    assert config == job.config
    assert config.ignore_weights == odd["ignore_weights"]
    for value in (1e-5, "x\ny\n", "", None, [1, {"a": "yes"}], "2024-01-01", "word " * 50):
        assert yaml.safe_load(as_word(value)) == value


CIRCLE = {"a": {"weights_from": "b"}, "b": {"weights_from": "a"}}


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({"seed": [1]}, "unknown key seed; did you mean seeds?"),
        ({"runs": {"a": {"sett": {}}}}, "runs.a: unknown key sett; did you mean set?"),
        ({"runs": {}}, "runs: "),
        ({"runs": None}, "runs: "),
        ({"methods": ["foal"]}, "no method foal; did you mean focal?"),
        ({"methods": "focal"}, "methods: "),
        ({"methods": [{}]}, "methods.0: "),
        ({"methods": ["post_hoc"]}, "runs.post_hoc.weights_from: no run cross_entropy"),
        ({"runs": {"../a": {}}}, "name '../a' must be a plain folder name"),
        ({"grid": {".": {}}}, "name '.' must be a plain folder name"),
        ({"seeds": [1, 1]}, "seeds: "),
        ({"seeds": []}, "seeds: "),
        ({"set": {"work_dir": "x"}}, "set.work_dir: the sweep itself sets"),
        ({"grid": {"g": {"set": {"seed": 3}}}}, "grid.g.set.seed: the sweep itself sets"),
        ({"grid": {"g": {"base_lr": 3}}}, "grid.g: unknown key base_lr; keys of the config go into set"),
        ({"grid": {"g": ""}}, "grid.g.config.0: String should have at least 1 character"),
        ({"grid": {"g": {"set": {}}}, "config": []}, "sweep.yaml: config: the recipe is missing"),
        ({"runs": {"a": {"weights_from": "bb"}, "b": {}}}, "runs.a.weights_from: no run bb; did you mean b?"),
        ({"runs": CIRCLE}, "wait for each other: a <- b <- a"),
        ({"runs": {"a": {"weights_from": "b", "set": {"weights": "x.pt"}}, "b": {}}}, "leave one out"),
        ({"runs": {"a": {}, "b": {"set": {"base_lrr": 1}}}}, "run b: "),
        ({"runs": {"a": {}, "b": {"set": {"base_lrr": 1}}}}, "unknown key base_lrr; did you mean base_lr?"),
        ({"runs": {"a": "absent.yaml"}}, "run a: config file absent.yaml does not exist"),
        ({"config": []}, "config: "),
    ],
)
def test_mistakes(write, capsys, events, keys, wanted):
    path = write(**keys)
    assert sweep.main([str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: ")
    assert wanted in error
    assert events() == [], "nothing was started"


def test_mistakes_on_the_command_line(write, capsys):
    path = str(write(runs={"first": {}, "second": {}}))
    for words, wanted in (
        (["--jobs", "0"], "--jobs must be 1 or more"),
        (["--per_gpu", "0"], "--per_gpu must be 1 or more"),
        (["--set", "seed=3"], "--set seed: the sweep itself sets"),
        (["--set", "base_lr"], "write KEY=VALUE"),
        (["--only", "thirst"], "--only thirst: no run matches; there are first, second"),
    ):
        assert sweep.main([path, *words]) == 2
        assert wanted in capsys.readouterr().err
    assert sweep.main(["absent.yaml"]) == 2
    assert "absent.yaml does not exist" in capsys.readouterr().err


def test_only_and_seeds(write):
    path = write(
        runs={"ce": {}, "tau": {"weights_from": "ce"}, "mix": {}, "mix_2": {}},
        grid={"g10": {}, "g50": {}},
        seeds=[1, 2],
    )

    def labels(*only, seeds=(7,)):
        return [job.label.removesuffix("/seed_7") for job in plan(path, seeds, only)]

    assert labels("g10") == ["g10/ce", "g10/tau", "g10/mix", "g10/mix_2"]
    assert labels("mix*") == ["g10/mix", "g10/mix_2", "g50/mix", "g50/mix_2"]
    assert labels("g50/mix", "g10/m*2") == ["g10/mix_2", "g50/mix"]
    assert labels("g50/tau") == ["g50/ce", "g50/tau"], "what it needs comes along"
    assert labels("ce", seeds=(7, 7, 4)) == ["g10/ce", "g50/ce", "g10/ce/seed_4", "g50/ce/seed_4"]
    (tau,) = (job for job in plan(path, [7], ["g50/tau"]) if job.needs)
    assert tau.config.weights == str(tau.folder.path.parents[1] / "ce" / "seed_7" / "last.pt")


def test_status(write):
    """Finished: the scores and the line of the last epoch are there; without epochs that is epoch -1."""
    (job,) = plan(write())
    job.folder.path.mkdir(parents=True)
    assert job.status() == "missing"
    job.folder.last.touch()
    assert (job.status(), job.epochs()) == ("cut off", 0)
    job.folder.scores().touch()
    job.folder.metrics.write_text('{"epoch": 0}\n{"epo')
    assert (job.status(), job.epochs()) == ("cut off", 1)
    job.folder.metrics.write_text('{"epoch": 0}\n{"epoch": 1}\n')
    assert (job.status(), job.epochs()) == ("finished", 2)
    job.folder.scores().unlink()
    assert job.status() == "cut off"
    job.folder.scores().touch()
    job.folder.metrics.write_text('{"epoch": -1}\n')
    assert job.status() == "cut off"
    none = dataclasses.replace(job, config=job.config.model_copy(update={"num_epoch": 0}))
    assert (none.status(), none.epochs()) == ("finished", 0)


def test_gpus(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-abc")
    assert visible_gpus() == ["5", "GPU-abc"]
    assert [duration(seconds) for seconds in (3.2, 62, 3601)] == ["3 s", "1 min 2 s", "1 h 0 min 1 s"]


# --- scheduling ------------------------------------------------------------------------------------------------------


def test_trains_what_is_missing_once(write, events, capsys, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(launch, "usable_cores", lambda: 5)
    path = write(runs={"first": {}, "second": {}}, grid={"a": {}, "b": {}}, seeds=[1, 2])
    assert sweep.main([str(path), "--dry-run"]) == 0
    assert capsys.readouterr().out.count("missing") == 8
    assert events() == []
    assert not (path.parent / "sweep").exists(), "a dry run writes nothing"
    assert sweep.main([str(path), "--only", "a/first", "--seeds", "2"]) == 0
    assert events("end") == ["first/seed_2"]
    assert sweep.main([str(path), "--jobs", "2", "--plugin", "tests"]) == 0
    assert len(events("begin")) == len(events("end")) == 8
    assert {line["OMP_NUM_THREADS"] for line in events()[2:]} == {"2"}, "the cores are shared out"
    assert all(line["group"] != os.getpgrp() for line in events()), "the terminal's Ctrl-C is not the children's"
    out = capsys.readouterr().out
    assert "a/first/seed_1  top-1  50.0 %  mean class  25.0 %  " in out
    assert f"python -m tools.table {path.parent / 'sweep' / 'b'} --baseline first" in out
    assert sweep.main([str(path)]) == 0
    assert len(events("begin")) == 8, "finished runs are left alone"


def test_what_is_chosen_on_validation_is_printed_with_it(write):
    """Else the command that the sweep prints would choose a recipe on the test set."""
    path = write(set={"val_feeder_args.num_test": 2})
    assert table_commands(plan(path))[0].endswith("--baseline first --split val")
    assert table_commands(plan(write()))[0].endswith("--baseline first")


def test_a_method_that_is_not_a_word(write):
    """A list where a name is wanted: a sentence, no traceback."""
    for key in ("mixing", "loss"):
        with pytest.raises(ConfigError, match=rf"{key}"):
            plan(write(set={key: ["shap_mix"]}))


def test_jobs_share_the_gpus(write, events):
    jobs = plan(write(runs={name: {} for name in "abc"}))
    assert Launcher(jobs, [], 3, ["4", "6"]).run() == 0
    begun = [line["CUDA_VISIBLE_DEVICES"] for line in events() if line["what"] == "begin"]
    assert sorted(begun) == ["4", "4", "6"]


def test_several_runs_on_each_gpu(write, events, monkeypatch, capsys):
    path = str(write(runs={name: {} for name in "abcd"}, set={"device": "auto"}))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(launch, "usable_cores", lambda: 8)
    monkeypatch.setattr(sweep, "visible_gpus", list)
    assert sweep.main([path, "--per_gpu", "2"]) == 2
    assert "--jobs says how many" in capsys.readouterr().err
    monkeypatch.setattr(sweep, "visible_gpus", lambda: ["4", "6"])
    assert sweep.main([path, "--per_gpu", "2", "--jobs", "3"]) == 2
    assert "give one of them" in capsys.readouterr().err
    assert sweep.main([path, "--per_gpu", "2"]) == 0
    assert "4 at a time on 2 GPU(s)" in capsys.readouterr().out
    begun = [line for line in events() if line["what"] == "begin"]
    assert sorted(line["CUDA_VISIBLE_DEVICES"] for line in begun) == ["4", "4", "6", "6"]
    assert {line["OMP_NUM_THREADS"] for line in begun} == {"2"}, "eight cores for four runs"


def test_one_fails(write, events, capsys):
    """The others go on; what needs its weights is skipped, and so on down the line."""
    runs = {"third": {"weights_from": "second"}, "second": {"weights_from": "bad"}, "bad": {}, "good": {}}
    assert sweep.main([str(write(runs=runs)), "--jobs", "1"]) == 1
    assert events("begin") == ["bad/seed_1", "good/seed_1"]
    out = capsys.readouterr().out
    assert "bad/seed_1  failed: exit code 2" in out
    assert "    error: the loss is not finite" in out
    for line in ("bad/seed_1 (exit code 2)", "second/seed_1 (needs bad/seed_1)", "third/seed_1 (needs second/seed_1)"):
        assert f"failed: {line}" in out


def test_runs_do_not_share_what_they_change(write):
    shared = {"n_max": 20, "imbalance": 5}
    path = write(set={"train_feeder_args": shared}, runs={"a": {}, "b": {"set": {"train_feeder_args.imbalance": 2}}})
    a, b = plan(path, [1])
    assert [job.config.train_feeder_args["imbalance"] for job in (a, b)] == [5, 2]
    assert a.overrides["train_feeder_args"] == shared


def test_a_run_without_scores_is_refused(write, capsys):
    assert sweep.main([str(write(set={"save_score": False}, runs={"a": {}}))]) == 2
    assert "run a: save_score is false" in capsys.readouterr().err


def test_weights_wait(write, events):
    """With places to spare, the second stage begins after the first has ended, with its weights."""
    path = write(runs={"second": {"weights_from": "first"}, "first": {}}, seeds=[1, 2])
    assert sweep.main([str(path), "--jobs", "4"]) == 0
    lines = events()
    for seed in ("1", "2"):
        order = [(line["what"], line["label"]) for line in lines if line["seed"] == seed]
        assert order == [(what, f"{name}/seed_{seed}") for name in ("first", "second") for what in ("begin", "end")]
        (words,) = (line["set"] for line in lines if line["label"] == f"second/seed_{seed}" and line["what"] == "end")
        assert f"weights={path.parent / 'sweep' / 'first' / f'seed_{seed}' / 'last.pt'}" in words


@pytest.mark.parametrize("finishes", [True, False])
def test_a_run_elsewhere_is_waited_for(write, events, capsys, finishes):
    """The others go on meanwhile; then it counts as finished, or is started."""
    path = write(runs={"theirs": {}, "ours": {}})
    folder = path.parent / "sweep" / "theirs" / "seed_1"
    folder.mkdir(parents=True)
    held = RunFolder(folder)
    held.acquire()
    assert sweep.main([str(path), "--dry-run"]) == 0
    assert "theirs/seed_1  running elsewhere\n" in capsys.readouterr().out

    def end():
        while "ours/seed_1" not in events("end"):
            time.sleep(0.02)
        time.sleep(0.2)
        assert "theirs/seed_1" not in events("begin")
        if finishes:
            (folder / "metrics.jsonl").write_text('{"epoch": 0}\n{"epoch": 1}\n')
            (folder / "scores_test.npz").touch()
        held.release()

    other = threading.Thread(target=end)
    other.start()
    assert sweep.main([str(path), "--jobs", "1"]) == 0
    other.join()
    assert events("begin") == (["ours/seed_1"] if finishes else ["ours/seed_1", "theirs/seed_1"])


def test_another_sweep_was_quicker(write, events):
    """Between a look at the lock and the child's own try another process may take it: no failure."""
    assert sweep.main([str(write(runs={"raced": {}}))]) == 0
    assert events("begin") == ["raced/seed_1"] * 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped(write, events, capsys, number, code):
    """The children are told, once, and waited for."""
    path = write(runs={"slow": {}, "later": {}}, seeds=[1, 2])

    def stop():
        while len(events("begin")) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    other = threading.Thread(target=stop)
    other.start()
    assert sweep.main([str(path), "--jobs", "2", "--only", "slow"]) == code
    other.join()
    assert sorted(events("saved")) == ["slow/seed_1", "slow/seed_2"]
    assert "the same command continues" in capsys.readouterr().out


def test_a_folder_of_another_config(write, events, capsys):
    path = write(runs={"first": {}, "second": {}})
    folder = path.parent / "sweep" / "second" / "seed_1"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"base_lr": 7.0, "num_epoch": 2, "momentum": 0.1}))
    (folder / "last.pt").touch()
    assert sweep.main([str(path)]) == 2
    error = capsys.readouterr().err
    assert "second/seed_1 (other " in error
    assert "base_lr" in error
    assert "momentum" in error
    assert "another work_dir, or delete" in error
    assert "num_epoch" not in error
    assert events() == []
    (folder / "last.pt").unlink()
    assert sweep.main([str(path)]) == 0, "what ended before its first checkpoint is in nobody's way"


def test_a_second_stage_of_another_first_stage(write, events, capsys):
    """It goes on, or counts as finished, only where it began with the weights that the first stage has now."""
    path = write(runs={"first": {}, "second": {"weights_from": "first"}})
    first, second = (path.parent / "sweep" / name / "seed_1" for name in ("first", "second"))
    assert sweep.main([str(path)]) == 0
    capsys.readouterr()

    def refused() -> bool:
        code, error = sweep.main([str(path), "--dry-run"]), capsys.readouterr().err
        assert code == 2 * ("second/seed_1 (its first stage, first/seed_1, is another one or is missing)" in error)
        return code == 2

    (first / "last.pt").write_bytes(b"weights")
    environment = {"weights_checksum": file_checksum(first / "last.pt")}
    (second / "environment.json").write_text(json.dumps(environment))
    assert not refused()
    (first / "last.pt").write_bytes(b"others")
    assert refused()
    (second / "scores_test.npz").unlink()
    assert refused(), "one that was cut off is not to go on either"
    (second / "environment.json").write_text('{"weights_checksum": null}')
    assert not refused(), "older runs do not tell"
    (second / "environment.json").write_text("[]")
    assert sweep.main([str(path), "--dry-run"]) == 2
    assert "environment.json is damaged" in capsys.readouterr().err
    (first / "last.pt").unlink()
    assert not refused(), "published runs come without their weights"
    (first / "scores_test.npz").unlink()
    assert refused(), "the first is to be trained again"
    for file in second.iterdir():
        file.unlink()
    assert not refused()


# --- the real thing --------------------------------------------------------------------------------------------------


def metrics(folder: Path) -> list:
    lines = RunFolder(folder).read_metrics()
    return [{key: value for key, value in line.items() if key != "samples_per_s"} for line in lines]


def children_of(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds children in /proc")
def test_killed_and_resumed(write, tmp_path, monkeypatch, capsys):
    """kill -9 of the sweep leaves its child alone, and of the child its checkpoint; the same command finishes all."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = write(
        set={"model": "tests.small.Model", "model_args": {}},
        runs={"first": {"set": {"num_epoch": 1}}, "second": {"set": {"num_epoch": 15, "mixing": "st_mix"}}},
    )
    words = [str(path), "--jobs", "1", "--plugin", "tests"]
    first, second = (tmp_path / "sweep" / name / "seed_1" for name in ("first", "second"))
    with subprocess.Popen([sys.executable, "-m", "tools.sweep", *words], cwd=ROOT, stdout=subprocess.DEVNULL) as killed:
        while not (second / "metrics.jsonl").is_file() or len(metrics(second)) < 3:
            assert killed.poll() is None
            time.sleep(0.02)
        (child,) = children_of(killed.pid)
        killed.kill()
        killed.wait()
    capsys.readouterr()
    assert sweep.main([*words, "--dry-run"]) == 0
    assert "second/seed_1  running elsewhere\n" in capsys.readouterr().out, "the orphan goes on"
    os.kill(child, signal.SIGKILL)
    while sweep.main([*words, "--dry-run"]) == 0 and "running" in capsys.readouterr().out:
        time.sleep(0.02)
    before = {file: file.stat().st_mtime_ns for file in first.iterdir()}
    assert 3 <= len(metrics(second)) < 15
    assert sweep.main(words) == 0
    assert {file: file.stat().st_mtime_ns for file in first.iterdir()} == before
    assert "going on in epoch" in (second / "log.txt").read_text()

    unbroken = [*plan(path, plugins=["tests"])[1].command(["tests"]), "--work_dir", str(tmp_path / "unbroken")]
    subprocess.run(unbroken, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)  # with as many threads
    assert metrics(second) == metrics(tmp_path / "unbroken")
    with pytest.raises(ConfigError, match=r"first/seed_1 \(other base_lr\); second/seed_1 \(other base_lr\)"):
        plan(path, overrides={"base_lr": 0.5}, plugins=["tests"])
    archive = tmp_path / "sweep.zip"
    assert table.main([str(tmp_path / "sweep"), "--archive", str(archive)]) == 0
    (first / "scores_test.npz").unlink()
    assert sweep.main([*words, "--only", "first"]) == 1
    assert (
        "first/seed_1  failed: its scores or last metrics are lost; delete its folder and those of runs"
        in capsys.readouterr().out
    )

    shutil.rmtree(tmp_path / "sweep")
    shutil.unpack_archive(archive, tmp_path / "sweep")  # as on another machine: the finished part of the sweep
    assert not (first / "last.pt").exists()
    assert [job.status() for job in plan(path, plugins=["tests"])] == ["finished", "finished"]
    with pytest.raises(ConfigError, match=r"first/seed_1 \(other base_lr\)"):
        plan(path, overrides={"base_lr": 0.5}, plugins=["tests"])
