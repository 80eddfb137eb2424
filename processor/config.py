"""The typed, closed schema of a run's configuration: every key, its type, range, default and meaning."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from feeders.feeder import Stage

from .methods import LOSSES, MIXERS, SECOND_STAGES
from .official import OFFICIAL_KEYS
from .yaml_text import parse_yaml, yaml_text

log = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "bf16", "fp64"]
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
    "show_topk", "plugins", "threads", "overlap", "dataset", "report", "logger",
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
    weights: str | None = Field(None, description="checkpoint, bare state dict or zoo:NAME to start from or to test")
    ignore_weights: list[str] = Field([], description="do not load weights whose names contain one of these words")
    new_classifier: bool = Field(
        False,
        description="weights of other classes: all but the classifier fc is loaded; of another skeleton, what fits",
    )
    freeze: Literal["none", "backbone"] = Field(
        "none", description="backbone: train the classifier fc alone, on weights; batch norms stay as they are"
    )
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
    layout: str | dict[str, Any] | None = Field(None, description="skeleton layout of your data: name, file or dict")
    overlap: Literal["refuse", "warn"] = Field(
        "refuse", description="test or validation samples that are training samples: refuse them, or only warn"
    )
    num_worker: int = Field(0, ge=0, description="loading processes for your own Dataset")
    groups: Groups = Field(Groups(), description="limits of the shot groups: {many: 100, few: 20}")

    model: str = Field("model.ctrgcn.Model", description="class path of the network")
    model_args: dict[str, Any] = Field({}, description="arguments of the network")

    mixing: Mixing = Field("shap_mix", description="how batches are mixed; none: they are not (docs/methods.md)")
    mixing_args: dict[str, Any] = Field({}, description="arguments of the mixer, such as shapmix.ShapMix")
    naive_mix_epoch: int = Field(5, ge=-1, description="first epoch of guided mixing; uniform before it")
    naive_estimate_epoch: int = Field(
        5, ge=-1, description="first epoch with drawn contexts and a table that decays; -1, as in official scripts: all"
    )
    ema: float = Field(0.9, ge=0, le=1, description="share of a saliency table's entry that stays at an update")
    dist_weights: str | None = Field(
        None, description="a .npy file of the saliency table (K, S) that training begins with, beside weights"
    )
    dataset: str | None = Field(
        None, description="prefix of the file in work_dir that holds the saliency table: <dataset>_saliency.npy"
    )
    baseline: Literal["test_view", "published"] = Field(
        "test_view",
        description="the mean sequence that replaces absent parts: as tested, or the official code's",
    )
    mix_stage: Stage = Field(
        "input",
        description="what is mixed: input: what the network gets, as published; joints: joint positions, from which "
        "the stream is then taken; frames: joints before the view is turned, both samples of a pair then alike",
    )
    partner: Literal["batch", "class_balanced", "tail_over_head"] = Field(
        "batch",
        description="what a sample is mixed with: another one of its batch, as published; or one of a second batch, in "
        "which all classes are as likely; tail_over_head: there the rarer of the two is pasted over the other",
    )
    refresh_samples: int = Field(
        16, ge=1, description="training samples of a class that a refresh uses at most (mixing_args.estimator: refresh)"
    )
    loss: Loss = Field("logit_adjustment", description="loss of clean and mixed batches (docs/methods.md)")
    loss_args: dict[str, Any] = Field({}, description="arguments of the loss, such as shapmix.FocalLoss")
    tau: float = Field(1.0, ge=0, description="strength of the prior of logit_adjustment")
    reweight_from: float | None = Field(
        None, ge=0, lt=1, description="share of the epochs after which classes are weighted by effective number; 0: all"
    )
    reweight_beta: float = Field(0.9999, ge=0, lt=1, description="beta of the effective number of samples")
    sampler: Literal["instance", "class_balanced", "round_robin", "over_sampling"] | None = Field(
        None, description="which training samples an epoch shows (feeders/loader.py); null: as the feeder says"
    )
    post_hoc_tau: float = Field(0.0, ge=0, description="tau of post-hoc logit adjustment of all scores; 0: none")
    second_stage: SecondStage = Field("none", description="second stage of decoupled training, on --weights")
    second_stage_args: dict[str, Any] = Field({}, description="classifier: name of that layer; tau (tau_normalisation)")

    optimizer: Literal["SGD", "Adam", "AdamW"] = Field("SGD", description="optimiser")
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
    precision: Precision = Field(
        "fp32", description="bf16: autocast, weights stay float32; auto: the quicker of fp32 and bf16, at the start"
    )
    threads: Literal["auto"] | PositiveInt = Field(
        "auto", description="threads on the CPU; auto: as many as are quickest at the start; OMP_NUM_THREADS wins"
    )
    compile: bool | Literal["reduce-overhead", "max-autotune"] = Field(
        False, description="torch.compile of the network: true, or one of its modes; needs a C++ compiler on the CPU"
    )

    average_weights: Literal["none", "ema", "swa"] = Field(
        "none",
        description="test averaged weights: ema: a moving average over steps; swa: the mean of the last quarter's "
        "epochs, which costs a pass over the training set in each evaluation. The raw weights are tested beside them",
    )
    average_decay: float = Field(0.999, ge=0, lt=1, description="decay of ema in a step; smaller at the start")
    fit_temperature: bool = Field(
        False,
        description="divide all scores by the temperature that suits the validation split best",
    )
    eval_interval: int = Field(1, ge=1, description="evaluate every so many epochs, and after the last")
    save_interval: int = Field(0, ge=0, description="keep epoch_N.pt every so many epochs; 0: only last.pt, best.pt")
    save_epoch: int = Field(0, ge=0, description="first epoch that save_interval keeps")
    save_steps: int = Field(0, ge=0, description="also write last.pt every so many steps within an epoch")
    save_score: bool = Field(True, description="write scores_test.npz and, with a validation split, scores_val.npz")
    report: bool = Field(True, description="write report.html at the end: figures, failures, body parts, mixing")
    show_topk: list[PositiveInt] = Field([1, 5], description="top-k accuracies in metrics.jsonl")
    log_interval: int = Field(100, ge=1, description="steps between lines in log.txt")
    logger: Literal["tensorboard", "wandb", "trackio", "none"] = Field(
        "tensorboard", description="where metrics and pictures go besides metrics.jsonl; pip install wandb or trackio"
    )
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

    @model_validator(mode="after")
    def _temperature_needs_validation(self) -> Config:
        if self.fit_temperature and not self.validates:
            raise ValueError("fit_temperature needs a validation split: val_subjects, val_fraction or val_feeder_args")
        return self

    @model_validator(mode="after")
    def _facing_needs_frames(self) -> Config:
        if self.mixing_args.get("same_facing") and self.mix_stage != "frames":
            raise ValueError("mixing_args.same_facing needs bodies that are not turned yet; set mix_stage: frames")
        return self

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
        """Keys of the identity in which a stored config differs.

        A key that it lacks has its default; ``auto`` (precision) is whatever the run chose when it began.
        """
        ours, theirs = (parse_yaml(yaml_text(values), "the config") for values in (self.identity(), dict(stored)))
        default = Config.model_validate({"feeder": ""}).identity()
        return [key for key in self.identity() if ours[key] not in ("auto", theirs.get(key, default[key]))]


def json_schema() -> dict[str, Any]:
    """JSON schema of a YAML file, for editors; with the official keys."""
    schema = Config.model_json_schema()
    del schema["required"]  # a method's file has no feeder
    official = {key: {"description": meaning} for key, meaning in OFFICIAL_KEYS.items()}
    schema["properties"] = {
        key: value for key, value in (schema["properties"] | official).items() if key not in ("config", "plugins")
    }
    return schema
