"""Shap-Mix: Shapley-guided mixing for long-tailed skeleton action recognition. Needs torch only."""

from .losses import LogitAdjustedLoss
from .saliency import SaliencyTable
from .shapley import exact_contributions, sampled_contribution, shapley_values
from .shapmix import ShapMix
from .skeleton import LAYOUTS, SkeletonLayout

__all__ = [
    "LAYOUTS",
    "LogitAdjustedLoss",
    "SaliencyTable",
    "ShapMix",
    "SkeletonLayout",
    "exact_contributions",
    "sampled_contribution",
    "shapley_values",
]
