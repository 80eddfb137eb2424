"""The cosine classifier and the second stage of decoupled training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from model.classifier import CosineClassifier, normalise_classifier, retrain_classifier
from model.ctrgcn import Model as CTRGCN
from model.stgcn import Model as STGCN


def network(**changes):
    torch.manual_seed(0)
    return CTRGCN(5, "ucla20", num_person=1, base_channel=4, **changes)


def test_cosine_classifier():
    torch.manual_seed(0)
    layer, x = CosineClassifier(6, 4, scale=7.0), torch.randn(3, 6)
    wanted = 7 * nn.functional.cosine_similarity(x[:, None], layer.weight[None], dim=-1)
    torch.testing.assert_close(layer(x), wanted)
    torch.testing.assert_close(layer(5 * x), wanted)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]


@pytest.mark.parametrize("kind", [CTRGCN, STGCN])
def test_networks_take_it(kind):
    made = kind(5, "ucla20", num_person=1, base_channel=4, classifier="cosine")
    assert isinstance(made.fc, CosineClassifier)
    assert made(torch.randn(2, 3, 16, 20, 1)).abs().max() <= 30
    with pytest.raises(ValueError, match="linear or cosine"):
        kind(5, "ucla20", num_person=1, base_channel=4, classifier="cosin")


def test_retraining_trains_the_classifier_alone():
    made = network()
    before = {key: value.clone() for key, value in made.state_dict().items()}
    for module in made.train() and retrain_classifier(made):
        module.training = False
    assert [name for name, value in made.named_parameters() if value.requires_grad] == ["fc.weight", "fc.bias"]
    drawn = {key: value.clone() for key, value in made.state_dict().items()}
    assert not torch.equal(drawn["fc.weight"], before["fc.weight"])
    optimizer = torch.optim.SGD([value for value in made.parameters() if value.requires_grad], 0.1)
    made(torch.randn(4, 3, 16, 20, 1)).square().mean().backward()
    optimizer.step()
    changed = {key for key, value in made.state_dict().items() if not torch.equal(value, drawn[key])}
    assert changed == {"fc.weight", "fc.bias"}  # no statistics either
    assert {key for key in drawn if not torch.equal(drawn[key], before[key])} <= changed


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_tau_normalisation(tau):
    made = network()
    with torch.no_grad():
        made.fc.weight *= torch.tensor([1.0, 2, 3, 4, 5])[:, None]
        made.fc.bias += 1
    before = made.fc.weight.detach().clone()
    assert normalise_classifier(made, tau) == []
    for row, old in zip(made.fc.weight, before, strict=True):
        torch.testing.assert_close(row, old / old.norm() ** tau)
    assert not made.fc.bias.any()
    if tau == 1:
        torch.testing.assert_close(made.fc.weight.norm(dim=1), torch.ones(5))


def test_other_names():
    made = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    retrain_classifier(made, "2")
    assert [value.requires_grad for value in made.parameters()] == [False, False, True, True]
    with pytest.raises(ValueError, match="the network has no linear layer 'fc' to be its classifier; it has 0, 2"):
        normalise_classifier(made)
    with pytest.raises(ValueError, match="tau must be"):
        normalise_classifier(network(), -1)


def test_a_cosine_classifier_is_not_normalised():
    """Its logits would stay as they are, and pass for those of a method."""
    with pytest.raises(ValueError, match="has no effect on a cosine classifier"):
        normalise_classifier(nn.Sequential(nn.ReLU(), CosineClassifier(3, 2)), classifier="1")
