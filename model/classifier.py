"""The classifier on top of a network: a cosine one, and the second stage of decoupled training.

Decoupled training (Kang et al., ICLR 2020): features learned as usual, then the classifier alone made anew.
Shapes: N batch, D features, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CosineClassifier(nn.Linear):
    """``scale * cos(feature, weight of the class)``: features (N, D) -> logits (N, K), within -scale .. scale.

    For losses whose margins are those of cosines (LDAM, Cao et al., NeurIPS 2019).
    """

    def __init__(self, in_features: int, num_class: int, scale: float = 30.0) -> None:
        super().__init__(in_features, num_class, bias=False)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(x, dim=-1), F.normalize(self.weight, dim=-1))


def classifier_of(network: nn.Module, name: str = "fc") -> nn.Linear:
    """The network's classifier.

    Raises:
        ValueError: there is no linear layer of that name.
    """
    found = dict(network.named_modules()).get(name)
    if not isinstance(found, nn.Linear):
        linear = [other for other, module in network.named_modules() if isinstance(module, nn.Linear)]
        there = ", ".join(linear) or "none"
        raise ValueError(f"classifier {name!r} is no linear layer of the network; there are {there}")
    return found


def retrain_classifier(network: nn.Module, classifier: str = "fc") -> list[nn.Module]:
    """Classifier re-training (cRT): draws the classifier anew (torch's global generator), freezes everything else.

    Args:
        classifier: the name of the linear layer that gives the logits.

    Returns:
        the modules to be kept in evaluation mode, so that their statistics stay too.

    Raises:
        ValueError: there is no linear layer of that name.
    """
    trained = classifier_of(network, classifier)
    network.requires_grad_(False)
    trained.requires_grad_(True)
    trained.reset_parameters()
    return [module for module in network.modules() if module is not trained]


@torch.no_grad()
def normalise_classifier(network: nn.Module, tau: float = 1.0, classifier: str = "fc") -> list[nn.Module]:
    """tau-normalisation: ``w_k / |w_k|^tau`` for the weight of every class; its bias becomes 0, as published.

    Args:
        tau: 0 changes nothing but the bias, 1 gives all classes weights of one length.
        classifier: the name of the linear layer that gives the logits.

    Returns:
        no modules to be kept in evaluation mode.

    Raises:
        ValueError: there is no linear layer of that name, it divides by these lengths itself, or tau < 0.
    """
    if tau < 0:
        raise ValueError(f"tau must be >= 0, got {tau}")
    linear = classifier_of(network, classifier)
    if isinstance(linear, CosineClassifier):
        raise ValueError(
            "tau-normalisation changes nothing in a cosine classifier: all its weights have one length already"
        )
    linear.weight /= linear.weight.norm(dim=1, keepdim=True).clamp(min=1e-12) ** tau
    if linear.bias is not None:
        linear.bias.zero_()
    return []
