"""What a sweep consists of: many jobs over one recipe, each with its config, and how far each is."""

from __future__ import annotations

import fnmatch
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..checkpoint import file_checksum
from ..config import Config
from ..config_files import explained, load_config, nearest, read_yaml
from ..errors import ConfigError
from ..methods import METHODS
from ..run_folder import RunFolder
from ..yaml_text import yaml_text

MAIN = ("-m", "processor")  # main.py, also where the project is installed
NAME = re.compile(r"\w[\w.+=-]*")
OF_THE_SWEEP = ("config", "phase", "work_dir", "seed", "resume", "overwrite", "plugins", "print_log")

FileName = Annotated[str, Field(min_length=1)]
Paths = Annotated[list[FileName], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
Methods = Annotated[list[str], BeforeValidator(lambda value: list(METHODS) if value == "all" else value)]


class Variant(BaseModel):
    """One entry of ``grid``: what differs from the recipe. A path or a list of paths is its ``config``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    config: Paths = []
    set: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _checked(cls, value: Any) -> Any:
        """A path alone is the config. A key of the config beside ``set`` is a common slip."""
        value = {"config": value} if isinstance(value, (str, list)) else {} if value is None else value
        for key in value if isinstance(value, dict) else ():
            if key not in cls.model_fields:
                hint = nearest(str(key), cls.model_fields, "keys of the config go into set: {...}")
                raise ValueError(f"unknown key {key}{hint}")
        return value


class Run(Variant):
    """One entry of ``runs``. ``weights_from`` names the run with whose weights it starts."""

    weights_from: str | None = None


class Sweep(BaseModel):
    """A sweep's YAML file. ``methods`` become the first entries of ``runs``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    work_dir: str
    config: Paths = Field([], description="the recipe that all runs share")
    seeds: list[int] = Field([1], min_length=1)
    set: dict[str, Any] = {}
    grid: dict[str, Variant] = {}
    methods: Methods = Field([], description="names of processor/methods.py, or all")
    runs: dict[str, Run] = Field({}, min_length=1, validate_default=True, description="name: what differs")

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, value: list[int]) -> list[int]:
        if len(set(value)) != len(value) or min(value) < 0:
            raise ValueError("must be different numbers from 0")
        return value

    @field_validator("methods")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        for name in value:
            if name not in METHODS:
                raise ValueError(f"no method {name}{nearest(name, METHODS)}")
        return value

    @field_validator("runs", mode="before")
    @classmethod
    def _of_methods(cls, value: Any, before: Any) -> Any:
        found = {}
        for name in before.data.get("methods", []):
            found[name] = {"config": f"config/methods/{name}.yaml", "weights_from": METHODS[name].starts_from}
        return {**found, **value} if isinstance(value, dict) else value

    @field_validator("grid", "runs")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not NAME.fullmatch(name):
                raise ValueError(f"name {name!r} must be a plain folder name of letters, digits, _ . + = -")
        return value

    @model_validator(mode="after")
    def _has_a_recipe(self) -> Sweep:
        if not self.config and not (self.grid and all(entry.config for entry in self.grid.values())):
            raise ValueError("config: the recipe is missing; name its file here, or in each entry of grid")
        return self


@dataclass(frozen=True)
class Job:
    """One run to be trained.

    Attributes:
        label: [grid entry/]run/seed_<N>.
        folder: of the run.
        paths, overrides: of its config.
        config: as they give it.
        needs: the label of the job with whose weights it starts, or None.
    """

    label: str
    folder: RunFolder
    paths: list[str]
    overrides: dict[str, Any]
    config: Config
    needs: str | None

    def command(self, plugins: Iterable[str]) -> list[str]:
        """main.py with this job's config."""
        words = [sys.executable, *MAIN, "--config", *self.paths, "--work_dir", str(self.folder)]
        words += ["--seed", str(self.config.seed), "--print_log", "false"]
        words += [word for plugin in plugins for word in ("--plugin", plugin)]
        rest = {key: value for key, value in self.overrides.items() if key not in ("work_dir", "seed", "print_log")}
        return [*words, "--set", *(f"{key}={as_word(value)}" for key, value in rest.items())]

    def epochs(self) -> int:
        """How many epochs are in its metrics.jsonl."""
        lines = self.folder.read_metrics()
        return lines[-1]["epoch"] + 1 if lines else 0

    def status(self) -> str:
        """finished, running elsewhere, cut off or missing. While a run trains it is not finished, whatever it has."""
        if self.folder.is_busy():
            return "running elsewhere"
        if self.is_complete():
            return "missing" if self.folder.other_keys(self.config) else "finished"
        return "cut off" if self.folder.last.is_file() else "missing"

    def is_complete(self) -> bool:
        """Does its folder hold the metrics and scores of the last epoch?"""
        return self.folder.is_complete(self.config.num_epoch)

    def is_stale(self, first: Job) -> bool:
        """Did it start from other weights than those that ``first`` has, or will ``first`` be trained again?"""
        if not first.folder.last.is_file():
            return not first.is_complete()  # finished runs are kept without their weights too
        began_with = self.folder.weights_checksum()
        return began_with is not None and began_with != file_checksum(first.folder.last)


def as_word(value: Any) -> str:
    """A value as one word of the command line, which main.py reads back."""
    text = yaml_text(value, one_line=True)
    return text.removesuffix("...\n").rstrip("\n")


def read_sweep(path: Path) -> Sweep:
    """Reads a sweep's YAML file.

    Raises:
        ConfigError: whatever is wrong with it, with file and key.
    """
    values = {"work_dir": str(Path("work_dir", "sweeps", path.stem)), **read_yaml(path)}
    try:
        sweep = Sweep(**values)
    except ValidationError as error:
        raise explained(str(path), error, Sweep, Run) from error
    _check_settings(f"{path}: set.", sweep.set)
    for name, entry in sweep.grid.items():
        _check_settings(f"{path}: grid.{name}.set.", entry.set)
    for name, run in sweep.runs.items():
        _check_settings(f"{path}: runs.{name}.set.", run.set)
        chain = [name]
        while (needs := sweep.runs[chain[-1]].weights_from) is not None:
            place = f"{path}: runs.{chain[-1]}.weights_from"
            if needs not in sweep.runs:
                others = [other for other in sweep.runs if other != chain[-1]]
                raise ConfigError(f"{place}: no run {needs}{nearest(needs, others)}")
            if needs in chain:
                raise ConfigError(f"{place}: the runs wait for each other: {' <- '.join([*chain, needs])}")
            chain.append(needs)
    return sweep


def plan(
    path: Path,
    seeds: Sequence[int] | None = None,
    only: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    plugins: Sequence[str] = (),
) -> list[Job]:
    """All jobs of a sweep, or the chosen ones and those that they need; every config is loaded.

    Args:
        path: the sweep's YAML file.
        seeds: instead of those in the file.
        only: patterns of names, see :func:`choose`.
        overrides: dotted keys over everything else.
        plugins: packages besides our own that class paths may name.

    Raises:
        ConfigError: a mistake in the sweep or in any of its runs, or a folder that holds another run.
    """
    sweep, overrides = read_sweep(path), overrides or {}
    _check_settings("--set ", overrides)
    chosen = choose(sweep, only)
    jobs = [
        _job(path, sweep, grid, name, seed, overrides, plugins)
        for seed in dict.fromkeys(seeds or sweep.seeds)
        for grid, name in chosen
    ]
    by_label, wrong = {job.label: job for job in jobs}, []
    for job in jobs:
        if not (job.folder.last.is_file() or job.folder.scores().is_file()):
            continue  # what ended before its first checkpoint is in nobody's way
        if keys := job.folder.other_keys(job.config):
            wrong.append(f"{job.label} (other {', '.join(keys)})")
        elif job.needs is not None and job.is_stale(by_label[job.needs]):
            wrong.append(f"{job.label} (its first stage, {job.needs}, is another one or is missing)")
    if wrong:
        raise ConfigError(
            f"{path}: {sweep.work_dir} holds other runs: {'; '.join(wrong)}. Give the sweep another "
            "work_dir, or delete their folders"
        )
    return jobs


def choose(sweep: Sweep, only: Sequence[str]) -> list[tuple[str, str]]:
    """(grid entry or "", run) of all that match a pattern, and of what they take their weights from.

    A pattern is a grid entry, or is matched as in a shell with ``grid/run`` and with ``run``.

    Raises:
        ConfigError: a pattern that matches nothing.
    """
    every = {_join(grid, name): (grid, name) for grid in sweep.grid or [""] for name in sweep.runs}
    wanted = set() if only else set(every.values())
    for pattern in only:
        found = [one for label, one in every.items() if one[0] == pattern or fnmatch.filter((label, one[1]), pattern)]
        if not found:
            raise ConfigError(f"--only {pattern}: no run matches; there are {', '.join(every)}")
        wanted.update(found)
    for grid, name in list(wanted):
        while (needs := sweep.runs[name].weights_from) is not None:
            wanted.add((grid, needs))
            name = needs
    return [one for one in every.values() if one in wanted]


def table_commands(jobs: Sequence[Job]) -> list[str]:
    """The commands that compare the runs, one for each grid entry; on the validation set, where there is one."""
    first: dict[Path, Job] = {}
    for job in jobs:
        first.setdefault(job.folder.path.parents[1], job)
    return [
        f"python -m tools.table {shlex.quote(str(folder))} --baseline {job.folder.path.parent.name}"
        + (" --split val" if job.config.validates else "")
        for folder, job in first.items()
    ]


def _job(
    path: Path, sweep: Sweep, grid: str, name: str, seed: int, last: Mapping[str, Any], plugins: Sequence[str]
) -> Job:
    """One job with its config."""
    entry, variant, full = sweep.grid.get(grid, Variant()), sweep.runs[name], _join(grid, name)
    settings: dict[str, Any] = {}
    for layer in (sweep.set, entry.set, variant.set, last):  # a later one's keys come last: a.b, then a
        settings = {key: value for key, value in settings.items() if key not in layer} | dict(layer)
    needs = None
    if variant.weights_from is not None:
        if "weights" in settings:
            raise ConfigError(f"{path}: {full}: weights are set, and weights_from as well; leave one out")
        needs = f"{_join(grid, variant.weights_from)}/seed_{seed}"
        settings["weights"] = str(RunFolder(Path(sweep.work_dir, needs)).last)
    label, paths = f"{full}/seed_{seed}", [*sweep.config, *entry.config, *variant.config]
    folder = RunFolder(Path(sweep.work_dir, label))
    settings |= {"phase": "train", "resume": "auto", "overwrite": False}
    settings |= {"work_dir": str(folder), "seed": seed, "print_log": False}
    try:
        config = load_config(paths, settings, plugins)
    except ConfigError as error:
        raise ConfigError(f"{path}: run {full}: {error}") from error
    if not config.save_score:
        raise ConfigError(f"{path}: run {full}: save_score is false, but a sweep's runs are compared by their scores")
    return Job(label, folder, paths, settings, config, needs)


def _check_settings(where: str, keys: Iterable[str]) -> None:
    for key in keys:
        if key.partition(".")[0] in OF_THE_SWEEP:
            raise ConfigError(f"{where}{key}: the sweep itself sets {', '.join(OF_THE_SWEEP)}")


def _join(grid: str, name: str) -> str:
    return f"{grid}/{name}" if grid else name
