"""Many runs over one recipe: what they are, how far each is, and a scheduler that trains what is missing."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from tqdm import tqdm

from .config import Config, ConfigError, load_config, nearest, read_yaml
from .lock import is_locked, refusal
from .log import read_metrics
from .signals import StopSignals

log = logging.getLogger(__name__)

MAIN = Path(__file__).parents[1] / "main.py"
POLL = 0.5  # seconds between two looks at the runs
SHOWN = 12  # last lines of a failed run's output
NAME = re.compile(r"\w[\w.+=-]*")
OF_THE_SWEEP = ("config", "phase", "work_dir", "seed", "resume", "overwrite", "plugins", "print_log")

Status = Literal["finished", "running elsewhere", "cut off", "missing"]


class Variant(BaseModel):
    """One entry of ``runs``: what differs from the recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    config: list[str] = []
    set: dict[str, Any] = {}
    weights_from: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"config": value} if isinstance(value, (str, list)) else {} if value is None else value

    @field_validator("config", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class Sweep(BaseModel):
    """A sweep's YAML file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    work_dir: str
    config: list[str] = Field(min_length=1, description="the recipe that all runs share")
    seeds: list[int] = Field([1], min_length=1)
    set: dict[str, Any] = {}
    grid: dict[str, dict[str, Any]] = {}
    runs: dict[str, Variant] = Field(min_length=1, description="name: what differs")

    @field_validator("config", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, value: list[int]) -> list[int]:
        if len(set(value)) != len(value) or min(value) < 0:
            raise ValueError("must be different numbers from 0")
        return value

    @field_validator("grid", "runs")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not NAME.fullmatch(name):
                raise ValueError(f"name {name!r} must be a plain folder name of letters, digits, _ . + = -")
        return value


@dataclass(frozen=True)
class Run:
    """One run: ``name`` is [grid entry/]run, ``label`` is that and the seed; ``needs`` is a label."""

    name: str
    label: str
    folder: Path
    paths: list[str]
    overrides: dict[str, Any]
    config: Config
    needs: str | None

    def command(self, plugins: Iterable[str]) -> list[str]:
        """main.py with this run's config."""
        words = [sys.executable, str(MAIN), "--config", *self.paths, "--work_dir", str(self.folder)]
        words += ["--seed", str(self.config.seed), "--print_log", "false"]
        for plugin in plugins:
            words += ["--plugin", plugin]
        rest = {key: value for key, value in self.overrides.items() if key not in ("work_dir", "seed", "print_log")}
        return [*words, "--set", *(f"{key}={as_word(value)}" for key, value in rest.items())]

    def epochs(self) -> int:
        """How many epochs its metrics.jsonl tells of."""
        lines = read_metrics(self.folder)
        return lines[-1]["epoch"] + 1 if lines else 0

    def status(self) -> Status:
        """How far it is. A run in training is not finished, whatever its folder holds."""
        if is_locked(self.folder):
            return "running elsewhere"
        if self.is_complete():
            return "finished" if not self.differs() else "missing"
        return "cut off" if (self.folder / "last.pt").is_file() else "missing"

    def is_complete(self) -> bool:
        """Does its folder hold the last epoch's figures and scores?"""
        lines = read_metrics(self.folder)
        last = bool(lines) and lines[-1]["epoch"] == self.config.num_epoch - 1
        return last and (self.folder / "scores_test.npz").is_file()

    def differs(self) -> list[str]:
        """Identity keys in which the run that its folder holds is another one."""
        path = self.folder / "config.yaml"
        if not path.is_file():
            return []
        mine = yaml.safe_load(yaml.safe_dump(self.config.identity()))
        theirs = {**{key: Config.model_fields[key].get_default() for key in mine}, **read_yaml(path)}
        return [key for key in mine if mine[key] != theirs[key]]


def as_word(value: Any) -> str:
    """A value as one word that :func:`processor.config.parse_value` reads back."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("...\n").rstrip("\n")


# --- what the sweep consists of --------------------------------------------------------------------------------------


def read_sweep(path: Path) -> Sweep:
    """Reads a sweep's YAML file.

    Raises:
        ConfigError: whatever is wrong with it, with file and key.
    """
    values = {"work_dir": str(Path("work_dir", "sweeps", path.stem)), **read_yaml(path)}
    try:
        sweep = Sweep(**values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(path, problem) for problem in error.errors())) from error
    for where, keys in _settings(sweep):
        for key in keys:
            if key.partition(".")[0] in OF_THE_SWEEP:
                raise ConfigError(f"{path}: {where}.{key}: the sweep itself sets {', '.join(OF_THE_SWEEP)}")
    for name, run in sweep.runs.items():
        chain = [name]
        while run.weights_from is not None:
            if run.weights_from not in sweep.runs:
                known = [other for other in sweep.runs if other != chain[-1]]
                raise ConfigError(
                    f"{path}: runs.{chain[-1]}.weights_from: no run {run.weights_from}"
                    f"{nearest(run.weights_from, known)}"
                )
            if run.weights_from in chain:
                circle = " <- ".join([*chain, run.weights_from])
                raise ConfigError(f"{path}: runs.{name}.weights_from: the runs wait for each other: {circle}")
            chain.append(run.weights_from)
            run = sweep.runs[run.weights_from]
    return sweep


def plan(
    path: Path,
    seeds: Sequence[int] | None = None,
    only: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    plugins: Sequence[str] = (),
) -> list[Run]:
    """All runs of a sweep, or those chosen and the ones that they need; every config is loaded.

    Args:
        path: the sweep's YAML file.
        seeds: instead of those in the file.
        only: patterns of names, see :func:`choose`.
        overrides: dotted keys over everything else.
        plugins: packages besides our own that class paths may name.

    Raises:
        ConfigError: a mistake in the sweep or in any of its runs, or a folder that holds another run.
    """
    sweep = read_sweep(path)
    refused = [key for key in overrides or {} if key.partition(".")[0] in OF_THE_SWEEP]
    if refused:
        raise ConfigError(f"--set {refused[0]}: the sweep itself sets {', '.join(OF_THE_SWEEP)}")
    chosen = choose(sweep, only)
    runs = []
    for seed in dict.fromkeys(seeds or sweep.seeds):
        for grid, name in chosen:
            runs.append(_run(path, sweep, grid, name, seed, overrides or {}, plugins))
    other = [(run, run.differs()) for run in runs if _holds_something(run.folder)]
    wrong = [f"{run.label} (other {', '.join(keys)})" for run, keys in other if keys]
    if wrong:
        raise ConfigError(
            f"{path}: {sweep.work_dir} holds runs of another config: {'; '.join(wrong)}. Give the sweep another "
            "work_dir, or delete their folders"
        )
    return runs


def choose(sweep: Sweep, only: Sequence[str]) -> list[tuple[str, str]]:
    """(grid entry or "", run) of all that match a pattern, and of what they take their weights from.

    A pattern is a grid entry, or is matched as in a shell with ``grid/run`` and with ``run``.

    Raises:
        ConfigError: a pattern that matches nothing.
    """
    every = [(grid, name) for grid in sweep.grid or [""] for name in sweep.runs]
    wanted = set() if only else set(every)
    for pattern in only:
        found = {
            (grid, name)
            for grid, name in every
            if grid == pattern or any(fnmatchcase(word, pattern) for word in (name, _join(grid, name)))
        }
        if not found:
            raise ConfigError(f"--only {pattern}: no run matches; there are {', '.join(_join(*one) for one in every)}")
        wanted |= found
    for grid, name in list(wanted):
        while (needs := sweep.runs[name].weights_from) is not None:
            wanted.add((grid, needs))
            name = needs
    return [one for one in every if one in wanted]


def _run(
    path: Path, sweep: Sweep, grid: str, name: str, seed: int, last: Mapping[str, Any], plugins: Sequence[str]
) -> Run:
    """One run with its config."""
    variant, full = sweep.runs[name], _join(grid, name)
    settings: dict[str, Any] = {}
    for layer in (sweep.set, sweep.grid.get(grid, {}), variant.set, last):
        for key, value in layer.items():
            settings.pop(key, None)  # a later layer's keys come last: a.b, then a
            settings[key] = value
    needs = None
    if variant.weights_from is not None:
        if "weights" in settings:
            raise ConfigError(f"{path}: {full}: weights are set, and weights_from as well; leave one out")
        needs = f"{_join(grid, variant.weights_from)}/seed_{seed}"
        settings["weights"] = str(Path(sweep.work_dir, needs, "last.pt"))
    label = f"{full}/seed_{seed}"
    folder, paths = Path(sweep.work_dir, label), [*sweep.config, *variant.config]
    settings |= {"phase": "train", "resume": "auto", "overwrite": False}
    settings |= {"work_dir": str(folder), "seed": seed, "print_log": False}
    try:
        config = load_config(paths, settings, plugins)
    except ConfigError as error:
        raise ConfigError(f"{path}: run {full}: {error}") from error
    if not config.save_score:
        raise ConfigError(f"{path}: run {full}: save_score is false, but a sweep's runs are compared by their scores")
    return Run(full, label, folder, paths, settings, config, needs)


def _settings(sweep: Sweep) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every place that sets keys of runs."""
    yield "set", sweep.set
    yield from ((f"grid.{name}", keys) for name, keys in sweep.grid.items())
    yield from ((f"runs.{name}.set", run.set) for name, run in sweep.runs.items())


def _holds_something(folder: Path) -> bool:
    """Is there what another config could spoil? What ended before its first checkpoint is not."""
    return (folder / "last.pt").is_file() or (folder / "scores_test.npz").is_file()


def _join(grid: str, name: str) -> str:
    return f"{grid}/{name}" if grid else name


def _explain(path: Path, problem: Any) -> str:
    """One pydantic error as a sentence."""
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = (Variant if len(problem["loc"]) > 1 else Sweep).model_fields
        return f"{path}: unknown key {key}{nearest(str(problem['loc'][-1]), known)}"
    if problem["type"] == "missing":
        return f"{path}: key {key} is missing: {Sweep.model_fields[key].description}"
    return f"{path}: {key}: {problem['msg']}; got {problem['input']!r}"


# --- machine ---------------------------------------------------------------------------------------------------------


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name, one word for each GPU that this process sees."""
    import torch

    number = torch.cuda.device_count()
    named = [word.strip() for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word.strip()]
    return (named or [str(index) for index in range(number)])[:number]


# --- training what is missing ----------------------------------------------------------------------------------------


@dataclass
class Child:
    """A run in training."""

    run: Run
    process: subprocess.Popen[bytes]
    began: float
    output_before: int

    def output(self) -> str:
        """What it has printed."""
        with open(self.run.folder / "output.txt", "rb") as file:
            file.seek(self.output_before)
            return file.read().decode(errors="replace")


class Scheduler:
    """Trains runs, several at a time, each in a process of its own.

    Args:
        runs: all of them, finished or not; what one needs is among them.
        plugins: for main.py.
        jobs: how many at a time.
        gpus: names for CUDA_VISIBLE_DEVICES, dealt out to the jobs in turn. Where there are none, the CPU's cores are
            shared out, unless OMP_NUM_THREADS says how many each may use.
    """

    def __init__(self, runs: Sequence[Run], plugins: Sequence[str], jobs: int, gpus: Sequence[str]) -> None:
        self.runs, self.plugins, self.jobs, self.gpus = list(runs), list(plugins), jobs, list(gpus)
        self.pending = list(runs)
        self.children: dict[int, Child] = {}
        self.elsewhere: list[Run] = []
        self.finished: set[str] = set()
        self.failed: dict[str, str] = {}
        self.epochs: dict[str, int] = {}

    def run(self) -> int:
        """Trains until nothing is left to do.

        Returns:
            0; 1 where a run failed; 130 or 143 where a signal came, after the children have saved.
        """
        for run in list(self.pending):
            if run.status() == "finished":
                self.finish(run)
        for run in self.runs:
            self.epochs[run.label] = run.epochs()
        total, done = sum(run.config.num_epoch for run in self.runs), sum(self.epochs.values())
        with StopSignals() as signals, tqdm(total=total, initial=done, unit="epoch", disable=None) as bar:
            try:
                while (self.pending or self.children) and signals.received is None:
                    self.settle()
                    self.start()
                    self.show(bar)
                    if self.pending or self.children:
                        time.sleep(POLL)
            finally:
                self.stop()
            if signals.received is not None and (self.pending or self.children):
                return 128 + signals.received
        return 1 if self.failed else 0

    def start(self) -> None:
        """Fills the free places with runs that are missing or cut off, and looks at those that run elsewhere."""
        self.elsewhere = []
        for run in list(self.pending):
            if run.needs in self.failed:
                self.pending.remove(run)
                self.failed[run.label] = f"needs {run.needs}"
                log.error("%s  skipped: it needs the weights of %s", run.label, run.needs)
                continue
            free = [place for place in range(self.jobs) if place not in self.children]
            if not free or (run.needs is not None and run.needs not in self.finished):
                continue
            status = run.status()
            if status == "running elsewhere":
                self.elsewhere.append(run)
            elif status == "finished":
                self.finish(run)
                log.info("%s  %s  (trained elsewhere)", run.label, headline(run))
            else:
                self.pending.remove(run)
                self.children[free[0]] = self.spawn(run, free[0])

    def spawn(self, run: Run, place: int) -> Child:
        """Starts one run, in a session of its own: the terminal's Ctrl-C is the sweep's."""
        environment = dict(os.environ)
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[place % len(self.gpus)]
        else:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, cores() // self.jobs)))
        run.folder.mkdir(parents=True, exist_ok=True)
        with open(run.folder / "output.txt", "ab") as output:
            before = output.tell()
            process = subprocess.Popen(
                run.command(self.plugins),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            return Child(run, process, time.monotonic(), before)

    def settle(self) -> None:
        """Reports children that have ended."""
        for place, child in list(self.children.items()):
            code, run = child.process.poll(), child.run
            if code is None:
                continue
            del self.children[place]
            if code == 0 and run.is_complete():
                self.finish(run)
                log.info("%s  %s  %s", run.label, headline(run), duration(time.monotonic() - child.began))
                continue
            output = child.output()
            if code == 2 and refusal(run.folder) in output:  # another sweep was quicker
                self.pending.append(run)
                continue
            self.failed[run.label] = f"exit code {code}" if code else "it ended without its scores"
            last = "\n".join(f"    {line}" for line in output.splitlines()[-SHOWN:])
            log.error(
                "%s  failed: %s; %s ends with\n%s",
                run.label,
                self.failed[run.label],
                run.folder / "output.txt",
                last,
            )

    def finish(self, run: Run) -> None:
        """Notes that a run is finished."""
        if run in self.pending:
            self.pending.remove(run)
        self.finished.add(run.label)

    def stop(self) -> None:
        """Has the children save and end, and waits for them."""
        for child in self.children.values():
            child.process.terminate()
        for place, child in list(self.children.items()):
            if child.process.wait() == 0 and child.run.is_complete():
                self.finish(child.run)
                del self.children[place]

    def show(self, bar: tqdm) -> None:
        """Brings the bar up to date."""
        active = [child.run for child in self.children.values()]
        for run in [*active, *self.elsewhere]:
            self.epochs[run.label] = run.epochs()
        for run in self.runs:
            if run.label in self.finished:
                self.epochs[run.label] = run.config.num_epoch
        bar.n = sum(self.epochs.values())
        names = ", ".join([run.label for run in active] + [f"{run.label} (elsewhere)" for run in self.elsewhere])
        bar.set_postfix_str(f"{len(self.finished)} finished, {len(self.failed)} failed; {names}")


def headline(run: Run) -> str:
    """The figures of a finished run's last epoch."""
    lines = read_metrics(run.folder)
    if not lines or "top1" not in lines[-1]:
        return "finished"
    return "top-1 {top1:5.1f} %  mean class {mean_class_accuracy:5.1f} %".format(
        **{name: 100 * lines[-1][name] for name in ("top1", "mean_class_accuracy")}
    )


def duration(seconds: float) -> str:
    """3725.2 -> 1 h 2 min 5 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours} h " if hours else "") + (f"{minutes} min " if hours or minutes else "") + f"{rest} s"
