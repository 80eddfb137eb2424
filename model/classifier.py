"""The classifier on top of a network: a cosine classifier, and the second stage of decoupled training.

Decoupled training (Kang et al., ICLR 2020): the first stage learns features as usual, the second one changes the
classifier alone.
Shapes: N batch, D features, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSIFIER = "fc"  # what networks call it


class CosineClassifier(nn.Linear):
    """``scale * cos(feature, weight of the class)``: features (N, D) -> logits (N, K) in -scale .. scale.

    For losses with a margin between cosines (LDAM, Cao et al., NeurIPS 2019).
    """

    def __init__(self, in_features: int, num_class: int, scale: float = 30.0) -> None:
        super().__init__(in_features, num_class, bias=False)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(x, dim=-1), F.normalize(self.weight, dim=-1))


def classifier_of(network: nn.Module, name: str = CLASSIFIER) -> nn.Linear:
    """The network's classifier, by name.

    Raises:
        ValueError: there is no linear layer of that name.
    """
    found = dict(network.named_modules()).get(name)
    if not isinstance(found, nn.Linear):
        linear = [other for other, module in network.named_modules() if isinstance(module, nn.Linear)]
        there = ", ".join(linear) or "none"
        raise ValueError(f"the network has no linear layer {name!r} to be its classifier; it has {there}")
    return found


def freeze_backbone(network: nn.Module, classifier: str = CLASSIFIER) -> list[nn.Module]:
    """Leaves the classifier alone to be trained.

    Args:
        classifier: name of the linear layer that gives the logits.

    Returns:
        all other modules: keep them in evaluation mode, so that running statistics do not change either.

    Raises:
        ValueError: there is no linear layer of that name.
    """
    trained = classifier_of(network, classifier)
    network.requires_grad_(False)
    trained.requires_grad_(True)
    return [module for module in network.modules() if module is not trained]


def retrain_classifier(network: nn.Module, classifier: str = CLASSIFIER) -> list[nn.Module]:
    """Classifier re-training (cRT): initialises the classifier again and freezes everything else.

    Its weights are drawn from torch's global generator. Arguments, result and errors as in :func:`freeze_backbone`.
    """
    frozen = freeze_backbone(network, classifier)
    classifier_of(network, classifier).reset_parameters()
    return frozen


@torch.no_grad()
def normalise_classifier(network: nn.Module, tau: float = 1.0, classifier: str = CLASSIFIER) -> list[nn.Module]:
    """tau-normalisation: ``w_k / |w_k|^tau`` for the weight of every class; its bias becomes 0, as published.

    Args:
        tau: 0 changes the bias alone; 1 gives the weights of all classes the same length.
        classifier: name of the linear layer that gives the logits.

    Returns:
        an empty list: no module has to stay in evaluation mode.

    Raises:
        ValueError: there is no linear layer of that name, it is a cosine classifier, or tau < 0.
    """
    if tau < 0:
        raise ValueError(f"tau must be >= 0, got {tau}")
    linear = classifier_of(network, classifier)
    if isinstance(linear, CosineClassifier):
        raise ValueError(
            "tau-normalisation has no effect on a cosine classifier, which uses weights of one length already"
        )
    linear.weight /= linear.weight.norm(dim=1, keepdim=True).clamp(min=1e-12) ** tau
    if linear.bias is not None:
        linear.bias.zero_()
    return []
