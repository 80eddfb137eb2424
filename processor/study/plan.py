"""What a sweep consists of: many runs over one recipe, each with its config, and how far each is."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..checkpoint import file_checksum
from ..config import Config, ConfigError, load_config, nearest, read_yaml
from ..run_folder import RunFolder

MAIN = Path(__file__).parents[2] / "main.py"
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
        lines = RunFolder(self.folder).read_metrics()
        return lines[-1]["epoch"] + 1 if lines else 0

    def status(self) -> Status:
        """How far it is. A run in training is not finished, whatever its folder holds."""
        if RunFolder(self.folder).is_busy():
            return "running elsewhere"
        if self.is_complete():
            return "finished" if not self.differs() else "missing"
        return "cut off" if (self.folder / "last.pt").is_file() else "missing"

    def is_complete(self) -> bool:
        """Does its folder hold the last epoch's figures and scores?"""
        lines = RunFolder(self.folder).read_metrics()
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

    def is_stale(self, first: Run) -> bool:
        """Did it begin with other weights than those that ``first`` has, or is to train anew?"""
        weights, environment = first.folder / "last.pt", self.folder / "environment.json"
        if not weights.is_file():
            return not first.is_complete()  # finished runs are kept without their weights too
        if not environment.is_file():
            return False
        try:
            began_with = json.loads(environment.read_text(encoding="utf-8")).get("weights_checksum")
        except (ValueError, AttributeError) as error:
            raise ConfigError(
                f"{environment} is damaged ({error}); delete its folder to train this run anew"
            ) from error
        return began_with is not None and began_with != file_checksum(weights)


def as_word(value: Any) -> str:
    """A value as one word that :func:`processor.config.parse_value` reads back."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("...\n").rstrip("\n")


# --- reading and planning ---------------------------------------------------------------------------------------------


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
    by_label, wrong = {run.label: run for run in runs}, []
    for run in runs:
        if _holds_something(run.folder):
            if keys := run.differs():
                wrong.append(f"{run.label} (other {', '.join(keys)})")
            elif run.needs is not None and run.is_stale(by_label[run.needs]):
                wrong.append(f"{run.label} (its first stage, {run.needs}, is another one or is missing)")
    if wrong:
        raise ConfigError(
            f"{path}: {sweep.work_dir} holds other runs: {'; '.join(wrong)}. Give the sweep another "
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
