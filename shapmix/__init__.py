"""Shap-Mix: Shapley-guided mixing for long-tailed skeleton action recognition. Needs torch only."""

from .baselines import Mixup, Remix, TemporalCutMix
from .losses import FocalLoss, LDAMLoss, LogitAdjustedLoss, effective_number_weights, post_hoc_adjustment
from .mixer import Mixer
from .saliency import SaliencyTable
from .shapley import exact_contributions, sampled_contribution, shapley_values
from .shapmix import ShapMix
from .skeleton import LAYOUTS, SkeletonLayout

__version__ = "0.1.0"  # semantic: https://semver.org

__all__ = [
    "LAYOUTS",
    "FocalLoss",
    "LDAMLoss",
    "LogitAdjustedLoss",
    "Mixer",
    "Mixup",
    "Remix",
    "SaliencyTable",
    "ShapMix",
    "SkeletonLayout",
    "TemporalCutMix",
    "effective_number_weights",
    "exact_contributions",
    "post_hoc_adjustment",
    "sampled_contribution",
    "shapley_values",
]
