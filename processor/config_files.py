"""YAML files and a command line's settings -> a checked Config.

Command line > YAML > default. A mistake is a ConfigError that names the file, the key and the nearest known one.
"""

from __future__ import annotations

import copy
import difflib
import importlib
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from feeders.files import kind_of
from shapmix.skeleton import LAYOUTS, SkeletonLayout

from .config import OWN_PACKAGES, Config, Groups
from .errors import ConfigError, shown
from .methods import CHOICES, OVERLAYS, SAMPLED, WARM_UP
from .official import OFFICIAL_GRAPHS, translate, translate_feeder_args, translate_model_args
from .user_code import place_of
from .yaml_text import MAX_LENGTH, parse_yaml

LARGEST_INT, LARGEST_FLOAT = 2**63 - 1, 3.4028234e38  # of int64 and float32


def load_config(
    paths: str | Sequence[str], overrides: Mapping[str, Any] | None = None, plugins: Sequence[str] = ()
) -> Config:
    """Reads YAML files, lays each over those before it and ``overrides`` over all, and checks what comes out.

    Dicts are merged key by key, but where a later file names another mixing or loss, the arguments of the one before
    are dropped. Official keys are translated.

    Args:
        paths: a YAML file, or several: a recipe, and a method over it.
        overrides: dotted keys, ``{"base_lr": 0.05, "train_feeder_args.stream": "bone"}``.
        plugins: packages besides our own that class paths may name.

    Raises:
        ConfigError: whatever is wrong with it.
    """
    paths = [paths] if isinstance(paths, str) else list(paths)
    path = " + ".join(paths)
    values: dict[str, Any] = {}
    for one in paths:
        values = _lay_over(values, read_yaml(Path(one)))
    if "plugins" in values:
        raise ConfigError(f"{path}: plugins may only be named on the command line (--plugin PACKAGE)")
    values = _lay_over(values, {key: value for key, value in (overrides or {}).items() if key in CHOICES})
    for key, value in (overrides or {}).items():
        _set(values, key, value)
    values = translate(values, path)
    folder = str(_default_work_dir([Path(one) for one in paths]))
    if values.setdefault("work_dir", folder) == "":  # the current folder, where --overwrite would remove files
        raise ConfigError(f"{path}: work_dir is an empty text; name a folder, or leave it out for {folder}")
    try:
        config = Config(**{**values, "config": path, "plugins": list(plugins)})
    except ValidationError as error:
        raise explained(path, error, Config, Groups, overrides or ()) from error
    config = _check_arguments(config)
    _check_values(config.model_dump(), path)
    return config


def keys_without_effect(config: Config) -> Iterator[tuple[str, str]]:
    """Keys that say other than the default, but that this method does not read; and why.

    Without those of the warm-up, which a recipe sets for all methods.
    """

    def changed(key: str) -> bool:
        return getattr(config, key) != Config.model_fields[key].get_default()

    for key in ("dist_weights", "dataset"):
        if changed(key) and config.mixing != "shap_mix":
            yield key, f"mixing is {config.mixing}, which has no saliency table"
    for key, choices in CHOICES.items():
        word = getattr(config, key)
        chosen = choices.get(word)
        read = {name for choice in choices.values() for name in choice.reads if name not in WARM_UP}
        for name in sorted(read - set(chosen.reads if chosen else ())):
            if changed(name):
                yield name, f"{key} is {word}"
        for name in chosen.ignores if chosen else ():
            if name in getattr(config, f"{key}_args"):
                yield f"{key}_args.{name}", f"{key} is {word}"
    for key in ("dist_weights", "new_classifier"):
        if changed(key) and config.weights is None:
            yield key, "weights is not set"
    for key in ("mix_stage", "partner"):
        if changed(key) and config.mixing not in CHOICES["mixing"]:
            yield key, f"mixing is {config.mixing}"
    if config.mixing == "shap_mix":
        estimator = config.mixing_args.get("estimator", "sampled")
        for name in SAMPLED if estimator == "refresh" else ("refresh_interval",):
            if name in config.mixing_args:
                yield f"mixing_args.{name}", f"mixing_args.estimator is {estimator}"
    if changed("refresh_samples") and config.mixing_args.get("estimator") != "refresh":
        yield "refresh_samples", "mixing_args.estimator is not refresh"
    if changed("average_decay") and config.average_weights != "ema":
        yield "average_decay", f"average_weights is {config.average_weights}"
    if changed("reweight_beta") and config.reweight_from is None:
        yield "reweight_beta", "reweight_from is not set"


def import_class(path: str, plugins: Iterable[str] = ()) -> type:
    """The class at a dotted path, from our own packages or from one that the user named.

    Raises:
        ConfigError: another package, no such module or class, or something that is not a class.
    """
    allowed = (*OWN_PACKAGES, *plugins)
    module_name, _, class_name = path.rpartition(".")
    if not any(module_name == package or module_name.startswith(package + ".") for package in allowed):
        raise ConfigError(
            f"class path {path!r} is outside {', '.join(allowed)}; name your own package on the command line: "
            f"--plugin {path.partition('.')[0] or 'PACKAGE'}"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        place = place_of(error)
        where = f" ({place})" if place else f"; packages are looked for in the current folder, {Path.cwd()}, too"
        raise ConfigError(f"class path {path!r}: {error}{where}") from error
    except Exception as error:
        error.add_note(f'The whole traceback: python -c "import {module_name}"')
        raise
    found = getattr(module, class_name, None)
    if found is None:
        raise ConfigError(f"class path {path!r}: module {module_name} has no {class_name!r}")
    if not isinstance(found, type) or found.__module__.partition(".")[0] not in {
        name.partition(".")[0] for name in allowed
    }:
        raise ConfigError(f"class path {path!r} is not a class of {', '.join(allowed)}")
    return found


def parameters(takes: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a constructor or function takes, by name."""
    return dict(inspect.signature(takes).parameters)


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys of a YAML file; ConfigError where it is not one."""
    if isinstance(path, Path) and path.is_fifo():  # to open one that nobody writes to takes for ever
        raise ConfigError(f"config file {path} {kind_of(path)}; save what it holds in one")
    try:
        with path.open(encoding="utf-8") as file:
            values = parse_yaml(file.read(MAX_LENGTH + 1), f"config file {path}")
    except FileNotFoundError as error:
        rows = OVERLAYS.get(path.parent.name, {}) if path.parent.parent == Path("config") else {}
        if path.stem in rows:  # an installed program has no config/
            return copy.deepcopy(dict(rows[path.stem].keys))
        there = ", ".join(sorted(str(other) for other in path.parent.glob("[!.]*.yaml"))) or "no .yaml files"
        raise ConfigError(f"config file {path} does not exist; {path.parent} holds {there}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"config file {path} must hold 'key: value' lines, got {type(values).__name__}")
    if wrong := [key for key in values if not isinstance(key, str)]:
        raise ConfigError(f"config file {path}: the key {wrong[0]!r} is no text; write it in quotes, or remove it")
    return values


def read_layout(value: Any, where: str) -> Any:
    """A skeleton layout as configs and commands name it -> its name, or a dict of one; None stays.

    Args:
        value: a name, a dict, or a YAML file of such a dict; its path counts from the current folder.
        where: file and key, or option, for messages.

    Raises:
        ConfigError: no such layout or file, or one that is damaged.
    """
    if isinstance(value, str) and value not in LAYOUTS and Path(value).is_file():
        where, value = f"{where}: {value}", read_yaml(Path(value))
    try:
        if value is not None:
            SkeletonLayout.get(value)
    except (ValueError, TypeError) as error:
        file = ", or a YAML file of one (its path counts from the current folder)" if isinstance(value, str) else ""
        raise ConfigError(f"{where}: {error}{file}") from error
    return value


def _default_work_dir(paths: Sequence[Path]) -> Path:
    """config/a/b.yaml -> work_dir/a/b; with c.yaml over it work_dir/a/b+c."""
    parts = paths[0].with_suffix("").parts
    below = parts[parts.index("config") + 1 :] if "config" in parts[:-1] else parts[-1:]
    return Path("work_dir", *below[:-1], "+".join([below[-1], *(path.stem for path in paths[1:])]))


def _lay_over(values: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of both; dicts are merged, other values are those of ``later``."""
    merged = dict(values)
    for key, choices in CHOICES.items():
        words = later.get(key), merged.get(key, Config.model_fields[key].default)
        now, before = (choices[word].make if word in choices else None for word in map(str, words))
        if key in later and now is not before:
            merged.pop(f"{key}_args", None)
    for key, value in later.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _lay_over(merged[key], value) if both else value
    return merged


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {key}: {parent!r} holds a value, not keys")
    values[last] = copy.deepcopy(value)  # the caller keeps what it gave


def _check_values(value: Any, path: str, key: str = "") -> None:
    """ConfigError where a value, at any depth, is one that torch or the system cannot take."""
    inner: Iterable[tuple[Any, Any]] = enumerate(value) if isinstance(value, (list, tuple)) else ()
    for name, one in value.items() if isinstance(value, dict) else inner:
        _check_values(one, path, f"{key}.{name}".lstrip("."))
    problem = None
    if isinstance(value, int) and abs(value) > LARGEST_INT:
        problem = "a whole number has at most 64 bits"
    elif isinstance(value, float) and LARGEST_FLOAT < abs(value) < math.inf:
        problem = f"a number is at most {LARGEST_FLOAT:.4g}, the largest one of 32 bits"
    elif isinstance(value, str) and "\0" in value:
        problem = "a text has no NUL characters"
    if problem is not None:
        raise ConfigError(f"{path}: {key}: {problem}; got {shown(value)}")


def _class_of(config: Config, key: str) -> type:
    try:
        return import_class(getattr(config, key), config.plugins)
    except ConfigError as error:
        raise ConfigError(f"{config.config}: {key}: {error}") from error


def _check_arguments(config: Config) -> Config:
    """Argument dicts against the constructors that take them; official feeder arguments are translated."""
    feeder, model = _class_of(config, "feeder"), _class_of(config, "model")
    changed: dict[str, Any] = {"layout": read_layout(config.layout, f"{config.config}: layout")}
    for key in ("feeder_args", "train_feeder_args", "val_feeder_args", "test_feeder_args"):
        changed[key] = translate_feeder_args(
            config.feeder, getattr(config, key), parameters(feeder), f"{config.config}: {key}"
        )
        _check_names(config, key, changed[key], feeder)
    where, takes_graph = f"{config.config}: model_args", "graph" in parameters(model) or _open_ended(model)
    changed["model_args"] = translate_model_args(config.model_args, takes_graph, where)
    _check_names(config, "model_args", changed["model_args"], model)
    if changed["layout"] is None and takes_graph:  # mixing by body parts needs it too
        changed["layout"] = OFFICIAL_GRAPHS.get(str(config.model_args.get("graph")))
    for key, choices in CHOICES.items():
        word, args = getattr(config, key), getattr(config, f"{key}_args")
        if word in choices:
            _check_names(config, f"{key}_args", args, choices[word].make, choices[word].reserved)
        elif args:
            raise ConfigError(f"{config.config}: {key}_args {args} without effect, because {key} is {word}")
    if config.second_stage != "none" and config.phase == "train" and not config.weights:
        raise ConfigError(f"{config.config}: second_stage {config.second_stage} needs weights: a first stage's last.pt")
    if config.num_epoch == 0 and config.phase == "train" and not config.weights:
        raise ConfigError(f"{config.config}: num_epoch 0 evaluates weights, but there are none; give a run's last.pt")
    if config.freeze != "none" and config.phase == "train" and not config.weights:
        raise ConfigError(f"{config.config}: freeze {config.freeze} needs weights: random ones would stay as they are")
    if config.new_classifier and config.num_epoch == 0 and config.phase == "train":
        raise ConfigError(
            f"{config.config}: new_classifier with num_epoch 0 evaluates a classifier that is not trained"
        )
    if config.second_stage == "tau_normalisation" and config.num_epoch > 0:
        raise ConfigError(f"{config.config}: second_stage tau_normalisation trains nothing; set num_epoch to 0")
    return config.model_copy(update=changed)


def _check_names(
    config: Config, key: str, args: dict[str, Any], takes: Callable[..., Any], reserved: Iterable[str] = ()
) -> None:
    """Names and types of an argument dict against what takes it; ``reserved`` are not the user's to give."""
    known, open_ended = [name for name in parameters(takes) if name not in reserved], _open_ended(takes)
    our_layout = key == "model_args" or takes.__module__.partition(".")[0] in OWN_PACKAGES  # a Dataset's may be another
    try:
        hints = get_type_hints(takes.__init__ if isinstance(takes, type) else takes)  # type: ignore[misc]
    except NameError:  # a plug-in whose annotations cannot be resolved; its names are still checked
        hints = {}
    for name, value in list(args.items()):
        if name not in known and not open_ended:
            raise ConfigError(f"{config.config}: unknown key {key}.{name}{nearest(name, known)}")
        if name == "layout" and our_layout:
            args[name] = read_layout(value, f"{config.config}: {key}.layout")
        elif name in hints:
            try:
                checked = TypeAdapter(hints[name], config=ConfigDict(arbitrary_types_allowed=True)).validate_python(
                    value
                )
                if isinstance(value, (str, int, float)):  # YAML reads 1e-4 as text
                    args[name] = checked
            except ValidationError as error:
                reason = "; ".join(sorted({problem["msg"] for problem in error.errors()}))
                raise ConfigError(f"{config.config}: {key}.{name}: {reason}; got {shown(value)}") from error


def _open_ended(takes: Callable[..., Any]) -> bool:
    """Does it take any name (``**options``)?"""
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters(takes).values())


def nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a sentence about an unknown name: the known one that is most like it, else ``otherwise`` or all."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; {otherwise}" if otherwise else f"; there are {', '.join(known) or 'none'}"


def explained(
    path: str,
    error: ValidationError,
    model: type[BaseModel],
    inner: type[BaseModel],
    overrides: Iterable[str] = (),
) -> ConfigError:
    """The error of a file's ``model``, whose keys may hold ``inner`` ones, with a sentence for each mistake.

    Args:
        overrides: dotted keys that the command line gives.
    """
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        where = f"--{key}" if any(f"{key}.".startswith(f"{one}.") for one in overrides) else f"{path}: {key}"
        where, reason = where.removesuffix(": "), problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            known = (inner if len(problem["loc"]) > 1 else model).model_fields
            lines.append(f"{path}: unknown key {key}{nearest(str(problem['loc'][-1]), known)}")
        elif problem["type"] == "missing":
            lines.append(f"{path}: key {key} is missing: {model.model_fields[key].description}")
        else:
            lines.append(f"{where}: {reason}" + f"; got {shown(problem['input'])}" * bool(key))
    return ConfigError("\n".join(lines))
