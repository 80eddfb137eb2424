"""The methods: what each word of ``mixing``, ``loss`` and ``second_stage`` stands for, and one row for each method.

A method is a few keys over a recipe; so is a row of ``KEYS``, over one with Shap-Mix. ``config/methods/<name>.yaml``,
``config/keys/<name>.yaml`` and the table in docs/methods.md are written from here by ``python -m tools.generate``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from model.classifier import normalise_classifier, retrain_classifier
from shapmix import FocalLoss, LDAMLoss, LogitAdjustedLoss, Mixup, Remix, ShapMix, TemporalCutMix

WARM_UP = ("naive_mix_epoch", "naive_estimate_epoch", "ema")
GUIDANCE = (
    "temperature", "bias_correction", "standardise", "guide_from", "scale", "estimator", "refresh_interval",
    "estimate_interval", "estimate_fraction", "rarity", "update", "decay_start", "reduction",
)  # fmt: skip
# Of them, those that the estimator refresh does not read.
SAMPLED = ("bias_correction", "estimate_interval", "estimate_fraction", "update", "decay_start", "reduction")


@dataclass(frozen=True)
class Choice:
    """What a value such as ``mixing: remix`` builds.

    Attributes:
        make: what takes the arguments in ``<key>_args``.
        reads: keys of the config that become its arguments of the same name.
        sets: arguments that the word itself gives.
        ignores: arguments that have no effect with this word.
    """

    make: Callable[..., Any]
    reads: tuple[str, ...] = ()
    sets: Mapping[str, Any] = field(default_factory=dict)
    ignores: tuple[str, ...] = ()

    @property
    def reserved(self) -> set[str]:
        """Arguments that ``<key>_args`` cannot give: they come from the data, the word, or keys of their own."""
        return {
            "network",
            "layout",
            "class_counts",
            "baseline",
            "seed",
            "tail_over_head",
            "input_format",
            *self.reads,
            *self.sets,
        }


MIXERS = {
    "shap_mix": Choice(ShapMix, (*WARM_UP, "baseline"), {"guided": True}),
    "st_mix": Choice(ShapMix, WARM_UP, {"guided": False}, GUIDANCE),
    "mixup": Choice(Mixup),
    "temporal_cutmix": Choice(TemporalCutMix),
    "remix": Choice(Remix),
}
LOSSES = {
    "logit_adjustment": Choice(LogitAdjustedLoss, ("tau",)),
    "cross_entropy": Choice(LogitAdjustedLoss, sets={"tau": 0.0}),
    "focal": Choice(FocalLoss),
    "ldam": Choice(LDAMLoss),
}
SECOND_STAGES = {
    "classifier_retraining": Choice(retrain_classifier),
    "tau_normalisation": Choice(normalise_classifier),
}
CHOICES: dict[str, Mapping[str, Choice]] = {"mixing": MIXERS, "loss": LOSSES, "second_stage": SECOND_STAGES}


@dataclass(frozen=True)
class Method:
    """One method, or what changes Shap-Mix.

    Attributes:
        title: what it is, for the first line of its file.
        paper: where it is from.
        keys: what it lays over a recipe.
        starts_from: the method whose last.pt its ``weights`` are, for a second stage.
    """

    title: str
    paper: str
    keys: Mapping[str, Any]
    starts_from: str | None = None


KANG, CAO, CHOU = "Kang et al., ICLR 2020", "Cao et al., NeurIPS 2019", "Chou et al., ECCV-W 2020"
MENON, ZHANG = "Menon et al., ICLR 2021", "Zhang et al., IJCAI 2024"
PLAIN: dict[str, Any] = {"mixing": "none", "loss": "cross_entropy"}
BALANCED: dict[str, Any] = {"loss": "logit_adjustment", "tau": 1}
LDAM: dict[str, Any] = {"mixing": "none", "loss": "ldam", "loss_args": {"max_margin": 0.5, "scale": 30}}
COSINE: dict[str, Any] = {"model_args": {"classifier": "cosine"}}
REMIX: dict[str, Any] = {"mixing": "remix", "mixing_args": {"alpha": 1, "kappa": 3, "threshold": 0.5}}
DEFERRED_WEIGHTS: dict[str, Any] = {"reweight_from": 0.8, "reweight_beta": 0.9999}
CUTMIX: dict[str, Any] = {"mixing": "temporal_cutmix", "mixing_args": {"alpha": 1}, "loss": "cross_entropy"}
RETRAINING: dict[str, Any] = {"num_epoch": 10, "schedule": "cosine", "warm_up_epoch": 0}
TAU: dict[str, Any] = {"second_stage": "tau_normalisation", "second_stage_args": {"tau": 1}, "num_epoch": 0}
# fmt: off
KEYS = {
    "published": Method("The saliency table as the official code keeps it", ZHANG,
                        {"mixing_args": {"bias_correction": False, "update": "sequential", "decay_start": "later"}}),
    "pairs": Method("The control: a coalition for each pair, all equally likely", "",
                    {"mixing_args": {"temperature": 1000000}}),
    "guided": Method("Guided by exact, refreshed, standardised contributions", "",
                     {"mixing_args": {"estimator": "refresh", "standardise": True, "temperature": 1}}),
    "guide_from": Method("Only pairs are guided whose training counts differ by this factor", "",
                         {"mixing_args": {"guide_from": 3}}),
    "balanced": Method("The partner is drawn alike from all classes", "", {"partner": "class_balanced"}),
    "tail_over_head": Method("The partner is drawn alike from all classes, and the rarer of a pair is pasted",
                             "after Park et al., CVPR 2022", {"partner": "tail_over_head"}),
    "bones": Method("The partner's bones on the sample's own skeleton", "",
                    {"mix_stage": "joints", "mixing_args": {"body": "bones"}}),
    "frames": Method("Joints are mixed before the view is turned, in 3D with the partner facing as the sample does", "",
                     {"mix_stage": "frames", "mixing_args": {"same_facing": "auto"}}),
}
# fmt: on


def together(*names: str) -> dict[str, Any]:
    """The keys of several rows of KEYS; of a key that two have, the later one's."""
    keys = [KEYS[name].keys for name in names]
    arguments = {name: value for one in keys for name, value in one.get("mixing_args", {}).items()}
    return {**{name: value for one in keys for name, value in one.items()}, "mixing_args": arguments}


# fmt: off
METHODS = {
    "cross_entropy": Method("Plain cross-entropy", "", PLAIN),
    "focal": Method("Focal loss", "Lin et al., ICCV 2017",
                    {"mixing": "none", "loss": "focal", "loss_args": {"gamma": 2.0}}),
    "class_balanced": Method("Class-balanced loss: cross-entropy weighted by the effective number of samples",
                             "Cui et al., CVPR 2019", {**PLAIN, "reweight_from": 0, "reweight_beta": 0.9999}),
    "ldam": Method("LDAM: margins that grow with rarity, on a cosine classifier", CAO, {**COSINE, **LDAM}),
    "ldam_drw": Method("LDAM with deferred re-weighting in the last fifth of the epochs", CAO,
                       {**COSINE, **LDAM, **DEFERRED_WEIGHTS}),
    "balanced_softmax": Method("Balanced softmax, the same as logit adjustment with tau 1",
                               f"Ren et al., NeurIPS 2020; {MENON}", {"mixing": "none", **BALANCED}),
    "over_sampling": Method("Random over-sampling: an epoch shows every class as often as the largest", KANG,
                            {**PLAIN, "sampler": "over_sampling"}),
    "class_balanced_sampling": Method("Class-balanced sampling: a class is drawn first, then one of its samples", KANG,
                                      {**PLAIN, "sampler": "class_balanced"}),
    "mixup": Method("mixup", "Zhang et al., ICLR 2018",
                    {"mixing": "mixup", "mixing_args": {"alpha": 1}, "loss": "cross_entropy"}),
    "temporal_cutmix": Method("CutMix along time: a segment of frames is the partner's", "after Yun et al., ICCV 2019",
                              CUTMIX),
    "remix": Method("Remix: mixup whose target is the rarer class alone in unequal pairs", CHOU,
                    {**REMIX, "loss": "cross_entropy"}),
    "remix_drw": Method("Remix with deferred re-weighting in the last fifth of the epochs", CHOU,
                        {**REMIX, "loss": "cross_entropy", **DEFERRED_WEIGHTS}),
    "st_mix": Method("ST-Mix: uniform mixing by body parts, with balanced softmax", ZHANG,
                     {"mixing": "st_mix", **BALANCED}),
    "shap_mix": Method("Shap-Mix with balanced softmax", ZHANG, {"mixing": "shap_mix", **BALANCED}),
    "shap_mix_bodies": Method("Shap-Mix by exact contributions; bones are pasted, before the view is turned", "",
                              {"mixing": "shap_mix", **BALANCED, **together("guided", "bones", "frames")}),
    "post_hoc": Method("Post-hoc logit adjustment of a trained network", MENON,
                       {**PLAIN, "num_epoch": 0, "post_hoc_tau": 1}, "cross_entropy"),
    "classifier_retraining": Method(
        "Decoupled training: the classifier is trained again", KANG,
        {**PLAIN, "sampler": "class_balanced", "second_stage": "classifier_retraining", **RETRAINING}, "cross_entropy"),
    "tau_normalisation": Method("Decoupled training: the classifier's weights are normalised", KANG,
                                {**PLAIN, **TAU}, "cross_entropy"),
}
# fmt: on
OVERLAYS = {"methods": METHODS, "keys": KEYS}  # folder in config/: its files


def overlay(method: Method) -> str:
    """The text of a method's YAML file."""
    paper = f" ({method.paper})" if method.paper else ""
    weights = f"\n# Needs --weights: the last.pt of a run with {method.starts_from}." if method.starts_from else ""
    keys = [yaml.safe_dump({key: value}, width=120, default_flow_style=None if isinstance(value, Mapping) else False)
            for key, value in method.keys.items()]  # fmt: skip
    return f"# {method.title}{paper}.{weights}\n{''.join(keys)}"


def methods_table() -> str:
    """The table of methods, as Markdown."""
    lines = ["| method | what | keys | from |", "|---|---|---|---|"]
    for name, method in METHODS.items():
        keys = yaml.safe_dump(dict(method.keys), default_flow_style=True, sort_keys=False, width=1000).strip()[1:-1]
        lines.append(f"| `{name}` | {method.title} | `{keys}` | {method.paper} |")
    return "\n".join([*lines, ""])
