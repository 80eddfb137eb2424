"""The configuration: a typed, closed schema. The only module that knows the YAML's keys.

Command line > YAML > default. A mistake is a :class:`ConfigError` that names the key and the nearest known one.
"""

from __future__ import annotations

import copy
import difflib
import importlib
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, TypeAdapter, ValidationError, field_validator

from .errors import ConfigError
from .methods import CHOICES, LOSSES, MIXERS, SECOND_STAGES, WARM_UP
from .official import OFFICIAL_KEYS, translate, translate_feeder_args

log = logging.getLogger(__name__)

OWN_PACKAGES = ("feeders", "model", "shapmix")
# Arguments of our feeders that hold subjects out of training for a validation split.
HOLD_OUT = ("val_subjects", "val_fraction")
if TYPE_CHECKING:
    Mixing: TypeAlias = str
    Loss: TypeAlias = str
    SecondStage: TypeAlias = str
else:
    Mixing, Loss, SecondStage = Literal[(*MIXERS, "none")], Literal[tuple(LOSSES)], Literal[(*SECOND_STAGES, "none")]

# Keys that may differ between a run and its resumption: they do not change what is computed.
NOT_IDENTITY = {
    "config", "phase", "work_dir", "device", "device_resident", "compile", "resume", "overwrite", "num_worker",
    "log_interval", "print_log", "test_batch_size", "save_interval", "save_epoch", "save_steps", "save_score",
    "show_topk", "plugins",
}  # fmt: skip


class Groups(BaseModel):
    """Shot groups: many-shot classes have more training samples than ``many``, few-shot ones fewer than ``few``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    many: int = Field(default=100, ge=0)
    few: int = Field(default=20, ge=0)


class Config(BaseModel):
    """Everything a run is told. Field order is the order in which config.yaml shows it."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    config: str = Field("", description="the YAML file or files that the run was started with")
    phase: Literal["train", "test", "info"] = Field(
        "train", description="train; test --weights; or info: size, cost and speed, without training"
    )
    work_dir: str = Field("", description="folder of the run; by default work_dir/<the config's path>")
    seed: int = Field(1, ge=0, description="seed of initialisation, order of samples, augmentation and mixing")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: a GPU where there is one")
    device_resident: Literal["auto"] | bool = Field(
        "auto",
        description="keep all frames on the device; auto: on a GPU, the splits that fit a third of its free memory",
    )
    resume: str = Field("auto", description="auto: go on where last.pt ends; none; or a checkpoint file")
    overwrite: bool = Field(False, description="replace the run that work_dir holds")
    weights: str | None = Field(None, description="checkpoint or bare state dict to start from or to test")
    ignore_weights: list[str] = Field([], description="do not load weights whose names contain one of these words")
    plugins: list[str] = Field([], description="packages besides our own that class paths may name (command line only)")

    feeder: str = Field(description="class path of the feeder, or of your own Dataset")
    feeder_args: dict[str, Any] = Field({}, description="arguments of the feeder, for every split")
    train_feeder_args: dict[str, Any] = Field({}, description="further arguments of the feeder for the training split")
    val_feeder_args: dict[str, Any] = Field(
        {},
        description="the same for a validation split, on which best.pt is then chosen; val_subjects or val_fraction in "
        "feeder_args make one too",
    )
    test_feeder_args: dict[str, Any] = Field({}, description="further arguments of the feeder for the test split")
    layout: str | dict[str, Any] | None = Field(None, description="skeleton layout of your own Dataset: name or dict")
    num_worker: int = Field(0, ge=0, description="loading processes for your own Dataset")
    groups: Groups = Field(Groups(), description="limits of the shot groups: {many: 100, few: 20}")

    model: str = Field("model.ctrgcn.Model", description="class path of the network")
    model_args: dict[str, Any] = Field({}, description="arguments of the network")

    mixing: Mixing = Field("shap_mix", description="how batches are mixed; none: they are not (docs/methods.md)")
    mixing_args: dict[str, Any] = Field({}, description="arguments of the mixer, such as shapmix.ShapMix")
    naive_mix_epoch: int = Field(5, ge=0, description="first epoch of guided mixing; uniform before it")
    naive_estimate_epoch: int = Field(5, ge=0, description="first epoch with drawn contexts and a table that decays")
    ema: float = Field(0.9, ge=0, le=1, description="share of a saliency table's entry that stays at an update")
    baseline: Literal["test_view", "published"] = Field(
        "test_view",
        description="the mean sequence that replaces absent parts: as tested, or the official code's",
    )
    loss: Loss = Field("logit_adjustment", description="loss of clean and mixed batches (docs/methods.md)")
    loss_args: dict[str, Any] = Field({}, description="arguments of the loss, such as shapmix.FocalLoss")
    tau: float = Field(1.0, ge=0, description="strength of the prior of logit_adjustment")
    reweight_from: float | None = Field(
        None, ge=0, lt=1, description="share of the epochs after which classes are weighted by effective number; 0: all"
    )
    reweight_beta: float = Field(0.9999, ge=0, lt=1, description="beta of the effective number of samples")
    sampler: Literal["instance", "class_balanced", "over_sampling"] | None = Field(
        None, description="which training samples an epoch shows (feeders/loader.py); null: as the feeder says"
    )
    post_hoc_tau: float = Field(0.0, ge=0, description="tau of post-hoc logit adjustment of all scores; 0: none")
    second_stage: SecondStage = Field("none", description="second stage of decoupled training, on --weights")
    second_stage_args: dict[str, Any] = Field({}, description="classifier: name of that layer; tau (tau_normalisation)")

    optimizer: Literal["SGD", "AdamW"] = Field("SGD", description="optimiser")
    base_lr: float = Field(0.1, gt=0, description="learning rate after the warm-up")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    nesterov: bool = Field(True, description="Nesterov momentum of SGD")
    weight_decay: float = Field(4e-4, ge=0, description="weight decay of all weights")
    grad_clip: float | None = Field(None, gt=0, description="largest norm of all gradients; null: no limit")
    schedule: Literal["step", "cosine"] = Field("step", description="how the learning rate falls after the warm-up")
    step: list[int] = Field([60, 80], description="epochs at which the learning rate decays (schedule: step)")
    lr_decay_rate: float = Field(0.1, gt=0, description="factor of each such decay")
    min_lr_ratio: float = Field(0.001, ge=0, le=1, description="last learning rate of cosine, as a share of base_lr")
    warm_up_epoch: int = Field(5, ge=0, description="epochs in which the learning rate rises to base_lr")
    num_epoch: int = Field(100, ge=0, description="epochs; 0: evaluate --weights")
    batch_size: int = Field(64, ge=1, description="training samples of a step, over all processes")
    test_batch_size: int = Field(64, ge=1, description="samples of a forward pass in evaluation, for each process")
    precision: Literal["fp32", "bf16", "fp64"] = Field("fp32", description="bf16: autocast, weights stay float32")
    compile: bool | Literal["reduce-overhead", "max-autotune"] = Field(
        False, description="torch.compile of the network: true, or one of its modes; needs a C++ compiler on the CPU"
    )

    eval_interval: int = Field(1, ge=1, description="evaluate every so many epochs, and after the last")
    save_interval: int = Field(0, ge=0, description="keep epoch_N.pt every so many epochs; 0: only last.pt, best.pt")
    save_epoch: int = Field(0, ge=0, description="first epoch that save_interval keeps")
    save_steps: int = Field(0, ge=0, description="also write last.pt every so many steps within an epoch")
    save_score: bool = Field(True, description="write scores_test.npz and, with a validation split, scores_val.npz")
    show_topk: list[PositiveInt] = Field([1, 5], description="top-k accuracies in metrics.jsonl")
    log_interval: int = Field(100, ge=1, description="steps between lines in log.txt")
    print_log: bool = Field(True, description="print the log on the console as well")

    @field_validator("device", mode="before")
    @classmethod
    def _device_list(cls, value: Any) -> Any:
        """The official ``device: [0]``."""
        if isinstance(value, (int, list)):
            log.info("device: %s means auto here; choose GPUs with CUDA_VISIBLE_DEVICES or torchrun", value)
            return "auto"
        return value

    @field_validator("device_resident", mode="before")
    @classmethod
    def _auto_or_not(cls, value: Any) -> Any:
        if value not in ("auto", True, False):
            raise ValueError("must be auto, true or false")
        return value

    @field_validator("ignore_weights", "step", "show_topk", "plugins", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, (str, int)) else value

    @property
    def validates(self) -> bool:
        """Is there a validation split: named by val_feeder_args, or by subjects held out of training?"""
        return bool(self.val_feeder_args or any(self.feeder_args.get(name) for name in HOLD_OUT))

    def split_args(self, split: Literal["train", "val", "test"]) -> dict[str, Any]:
        """The feeder's arguments for a split."""
        own: dict[str, Any] = getattr(self, f"{split}_feeder_args")
        return {**self.feeder_args, **own}

    def identity(self) -> dict[str, Any]:
        """What two runs must share for one to go on where the other ended."""
        return {key: value for key, value in self.model_dump().items() if key not in NOT_IDENTITY}

    def other_keys(self, stored: Mapping[str, Any]) -> list[str]:
        """Keys of the identity in which a stored config is another one; a key that it lacks has its default."""
        ours, theirs = (yaml.safe_load(yaml.safe_dump(values)) for values in (self.identity(), dict(stored)))
        default = Config.model_validate({"feeder": ""}).identity()
        return [key for key in ours if ours[key] != theirs.get(key, default[key])]


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
    values.setdefault("work_dir", str(_default_work_dir([Path(one) for one in paths])))
    try:
        config = Config(**{**values, "config": path, "plugins": list(plugins)})
    except ValidationError as error:
        raise explained(path, error, Config, Groups) from error
    return _check_arguments(config)


def keys_without_effect(config: Config) -> Iterator[tuple[str, str]]:
    """Keys that say other than the default, but that this method does not read; and why.

    Without those of the warm-up, which a recipe sets for whatever method is laid over it.
    """

    def changed(key: str) -> bool:
        return getattr(config, key) != Config.model_fields[key].get_default()

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
        found = getattr(importlib.import_module(module_name), class_name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"class path {path!r}: {error}") from error
    except AttributeError as error:
        raise ConfigError(f"class path {path!r}: module {module_name} has no {class_name!r}") from error
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
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        there = ", ".join(sorted(str(other) for other in path.parent.glob("*.yaml"))) or "no .yaml files"
        raise ConfigError(f"config file {path} does not exist; {path.parent} holds {there}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"config file {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"config file {path} must hold 'key: value' lines, got {type(values).__name__}")
    return values


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


def _check_arguments(config: Config) -> Config:
    """Argument dicts against the constructors that take them; official feeder arguments are translated."""
    feeder, model = import_class(config.feeder, config.plugins), import_class(config.model, config.plugins)
    changed: dict[str, Any] = {}
    for key in ("feeder_args", "train_feeder_args", "val_feeder_args", "test_feeder_args"):
        changed[key] = translate_feeder_args(
            config.feeder, getattr(config, key), parameters(feeder), f"{config.config}: {key}"
        )
        _check_names(config, key, changed[key], feeder)
    _check_names(config, "model_args", config.model_args, model)
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
    if config.second_stage == "tau_normalisation" and config.num_epoch > 0:
        raise ConfigError(f"{config.config}: second_stage tau_normalisation trains nothing; set num_epoch to 0")
    return config.model_copy(update=changed)


def _check_names(
    config: Config, key: str, args: dict[str, Any], takes: Callable[..., Any], reserved: Iterable[str] = ()
) -> None:
    """Names and types of an argument dict against what takes it; ``reserved`` are not the user's to give."""
    known = {name: parameter for name, parameter in parameters(takes).items() if name not in reserved}
    open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values())
    try:
        hints = get_type_hints(takes.__init__ if isinstance(takes, type) else takes)  # type: ignore[misc]
    except NameError:  # a plug-in whose annotations cannot be resolved; its names are still checked
        hints = {}
    for name, value in list(args.items()):
        if name not in known and not open_ended:
            raise ConfigError(f"{config.config}: unknown key {key}.{name}{nearest(name, known)}")
        if name in hints:
            try:
                checked = TypeAdapter(hints[name], config=ConfigDict(arbitrary_types_allowed=True)).validate_python(
                    value
                )
                if isinstance(value, (str, int, float)):  # YAML reads 1e-4 as text
                    args[name] = checked
            except ValidationError as error:
                reason = "; ".join(sorted({problem["msg"] for problem in error.errors()}))
                raise ConfigError(f"{config.config}: {key}.{name}: {reason}; got {value!r}") from error


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the known one that is most like it, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known) or 'none'}"


def explained(path: str, error: ValidationError, model: type[BaseModel], inner: type[BaseModel]) -> ConfigError:
    """The error of a file's ``model``, whose keys may hold ``inner`` ones, with a sentence for each mistake."""
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = (inner if len(problem["loc"]) > 1 else model).model_fields
            lines.append(f"{path}: unknown key {key}{nearest(str(problem['loc'][-1]), known)}")
        elif problem["type"] == "missing":
            lines.append(f"{path}: key {key} is missing: {model.model_fields[key].description}")
        else:
            lines.append(f"{path}: {key}: {problem['msg']}; got {problem['input']!r}")
    return ConfigError("\n".join(lines))


def json_schema() -> dict[str, Any]:
    """JSON schema of a YAML file, for editors; with the official keys."""
    schema = Config.model_json_schema()
    official = {key: {"description": meaning} for key, meaning in OFFICIAL_KEYS.items()}
    schema["properties"] = {
        key: value for key, value in (schema["properties"] | official).items() if key not in ("config", "plugins")
    }
    return schema
