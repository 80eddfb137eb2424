"""Deletion and insertion curves: networks for which theory gives them, captum, a brute force, and the file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, ShapleyValues
from torch import Tensor, nn

from feeders.loader import Batch, Loader
from processor.report import explain as module
from processor.report.explain import CURVES, ORDERS, Explanation, area, explain, load, over_samples, truth_page
from shapmix import SkeletonLayout


def made_layout(parts: int) -> SkeletonLayout:
    """Part p has one joint, and the last one has two."""
    joints = parts + 1
    members = {f"part {part}": (part,) if part < parts - 1 else (part, part + 1) for part in range(parts)}
    bones = tuple((joint, joint - 1) for joint in range(1, joints))
    return SkeletonLayout("made", tuple(f"joint {joint}" for joint in range(joints)), bones, members)


FIVE = made_layout(5)
BASELINE = torch.zeros(2, 3, 6, 1)
WEIGHTS = (0.3, 0.05, -0.1, 0.0, 0.25)  # of an additive probability


class Fixed(Loader):
    """Samples x (n * clips, C, T, V, M) by their labels."""

    def __init__(self, x: Tensor, labels: list[int], clips: int = 1) -> None:
        ids = [f"sample {row}" for row in range(len(labels))]
        names = [f"class {label}" for label in range(max(labels) + 1)]
        super().__init__(np.array(labels), ids, names, 4, 1, 0, torch.device("cpu"), torch.float32)
        self.x, self.clips = x, clips

    @property
    def sample_shape(self) -> tuple[int, int, int, int]:
        channels, frames, joints, people = self.x.shape[1:]
        return channels, frames, joints, people

    def in_order(self, batch_size: int, rows: Tensor | None = None) -> Iterator[Batch]:
        for own in self._shares(batch_size, rows):
            clips = (own[:, None] * self.clips + torch.arange(self.clips)).flatten()
            yield self._to_device(self.x[clips], own)


def ones(labels: list[int], layout: SkeletonLayout = FIVE) -> Fixed:
    """Sequences of ones: a part that is removed becomes 0."""
    return Fixed(torch.ones(len(labels), 2, 3, layout.num_joints, 1), labels)


class ByParts(nn.Module):
    """The probability (N,) of every true class from which parts are there (N, P); the rest goes to one more class."""

    def __init__(self, probability, layout: SkeletonLayout = FIVE, num_class: int = 3) -> None:
        super().__init__()
        self.probability, self.num_class = probability, num_class
        self.firsts = [joints[0] for joints in layout.parts.values()]
        self.most = 0

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.most = max(self.most, len(x))
        own = self.probability(x[:, 0, 0, self.firsts, 0]).clamp(1e-30)[:, None]
        return torch.cat([own.expand(-1, self.num_class), (1 - own).clamp(1e-30)], 1).log()


def true_class(probability):
    """A network of two classes, both true with this probability: of the first, the second is the rest."""

    class Network(ByParts):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, [0, self.num_class]]

    return Network(probability)


def explained(probability, labels=(0, 0, 0)) -> Explanation:
    network = true_class(probability)
    found = explain(network, BASELINE, ones(list(labels)), FIVE)
    assert network.training, "in its own mode again"
    return found


def test_one_part_alone():
    """Whose removal takes all, at once; at random, a share of 1/P at each step."""
    found = explained(lambda there: 0.1 + 0.8 * there[:, 2])
    for kind, by_shapley, by_reverse in (
        ("deletion", [0.9, 0.1, 0.1, 0.1, 0.1, 0.1], [0.9, 0.9, 0.9, 0.9, 0.9, 0.1]),
        ("insertion", [0.1, 0.9, 0.9, 0.9, 0.9, 0.9], [0.1, 0.1, 0.1, 0.1, 0.1, 0.9]),
    ):
        steps = np.linspace(0.1, 0.9, 6)[:: -1 if kind == "deletion" else 1]
        for order, wanted in zip(ORDERS, (by_shapley, by_reverse, steps, by_shapley), strict=True):
            np.testing.assert_allclose(found.curve(kind, order), np.tile(wanted, (3, 1)), atol=1e-6, err_msg=order)
        assert found.gain(kind, "shapley").value == pytest.approx(0.5 - (0.5 + 4 * 0.1) / 5, abs=1e-6)
        assert found.gain(kind, "reverse").value == pytest.approx(-0.32, abs=1e-6)
        assert found.is_better_than_chance(kind)
    np.testing.assert_allclose(found.shapley, np.tile([0, 0, 0.8, 0, 0], (3, 1)), atol=1e-6)
    assert "faster than removing them at random" in found.verdict()


def test_an_additive_network():
    """Every step is a part's weight; at random, each is their mean."""
    found = explained(lambda there: 0.4 + there @ torch.tensor(WEIGHTS))
    np.testing.assert_allclose(found.shapley, np.tile(WEIGHTS, (3, 1)), atol=1e-6)
    np.testing.assert_allclose(found.ablation, found.shapley, atol=1e-6)
    falling = -np.sort(-np.array(WEIGHTS))
    for order, steps in zip(ORDERS, (falling, falling[::-1], np.full(5, 0.1), falling), strict=True):
        for kind, start, sign in (("deletion", 0.9, -1), ("insertion", 0.4, 1)):
            wanted = start + sign * np.concatenate([[0], steps.cumsum()])
            np.testing.assert_allclose(found.curve(kind, order)[0], wanted, atol=1e-6)


def test_symmetric_parts():
    """All orders are the same curve, so none is better than chance."""
    found = explained(lambda there: 0.1 + 0.8 * (there.sum(1) / 5) ** 2)
    np.testing.assert_allclose(found.shapley, 0.16, atol=1e-6)
    wanted = 0.1 + 0.8 * (np.arange(5, -1, -1) / 5) ** 2
    for order in ORDERS:
        np.testing.assert_allclose(found.curve("deletion", order), np.tile(wanted, (3, 1)), atol=1e-6)
    assert "not better than chance" in found.verdict()


def test_a_constant_network():
    found = explained(lambda there: torch.full((len(there),), 0.7))
    np.testing.assert_allclose(found.curves, 0.7, atol=1e-6)
    assert not found.is_better_than_chance()
    assert "not better than chance" in truth_page(found)


def network_and_samples(layout: SkeletonLayout = FIVE, clips: int = 1) -> tuple[nn.Module, Fixed, Tensor]:
    """Parts act together; six samples in three classes."""
    rng = torch.Generator().manual_seed(1)
    torch.manual_seed(1)
    size = 2 * 3 * layout.num_joints
    network = nn.Sequential(nn.Flatten(), nn.Linear(size, 8), nn.Tanh(), nn.Linear(8, 3))
    x = torch.randn(6 * clips, 2, 3, layout.num_joints, 1, generator=rng)
    return network, Fixed(x, [0, 1, 1, 2, 2, 2], clips), torch.randn(x.shape[1:], generator=rng)


def test_values_are_captums():
    network, loader, baseline = network_and_samples()
    found = explain(network, baseline, loader, FIVE)
    groups = torch.zeros(1, 1, 1, 6, 1, dtype=torch.long)
    for part, joints in enumerate(FIVE.parts.values()):
        groups[..., list(joints), :] = part
    rows = [int(name.split()[1]) for name in found.ids]
    arguments = {"baselines": baseline[None], "target": torch.from_numpy(found.labels), "feature_mask": groups}
    for kind, ours in ((FeatureAblation, found.ablation), (ShapleyValues, found.shapley)):
        with torch.no_grad():
            theirs = kind(lambda x: network(x).softmax(-1)).attribute(loader.x[rows], **arguments)
        np.testing.assert_allclose(ours, theirs[:, 0, 0, :5, 0], atol=1e-6)
        assert np.abs(ours).max() > 0.05


@pytest.mark.parametrize("clips", [1, 2])
def test_curves_are_a_brute_force(clips):
    """Parts are removed one after the other; at random: the mean over all orders. Clips are averaged."""
    layout = made_layout(3)
    network, loader, baseline = network_and_samples(layout, clips)
    found = explain(network, baseline, loader, layout, max_batch=5)

    @torch.no_grad()
    def curve(row: int, label: int, order) -> list[float]:
        x, values = loader.x[row * clips : (row + 1) * clips].clone(), []
        for part in (None, *order):
            if part is not None:
                joints = list(layout.parts[f"part {part}"])
                x[:, :, :, joints] = baseline[:, :, joints]
            values.append(network(x).softmax(1)[:, label].mean().item())
        return values

    for place, name in enumerate(found.ids):
        row, label = int(name.split()[1]), int(found.labels[place])
        orders = {order: curve(row, label, order) for order in permutations(range(3))}
        by_value = tuple(np.argsort(-found.shapley[place]).tolist())
        by_ablation = tuple(np.argsort(-found.ablation[place]).tolist())
        wanted = orders[by_value], orders[by_value[::-1]], np.mean(list(orders.values()), 0), orders[by_ablation]
        for order, values in zip(ORDERS, wanted, strict=True):
            np.testing.assert_allclose(found.curve("deletion", order)[place], values, atol=1e-6, err_msg=order)


def test_many_parts_are_sampled(monkeypatch):
    """Of an additive network any order gives the exact values; of another one, many orders nearly do."""
    weights = torch.arange(9) / 100
    layout = made_layout(9)
    network = ByParts(lambda there: 0.1 + (there * weights).sum(1), layout, 1)
    found = explain(network, torch.zeros(2, 3, 10, 1), ones([0, 0], layout), layout, max_batch=7)
    assert found.sampled_orders == module.SAMPLED_ORDERS
    assert network.most <= 7, "bounded in memory"
    np.testing.assert_allclose(found.shapley, np.tile(weights, (2, 1)), atol=1e-6)
    np.testing.assert_allclose(found.curve("insertion", "shapley")[0, :3], [0.1, 0.18, 0.25], atol=1e-6)
    network, loader, baseline = network_and_samples()
    exact = explain(network, baseline, loader, FIVE)
    monkeypatch.setattr(module, "EXACT_PARTS", 4)
    sampled = explain(network, baseline, loader, FIVE)
    np.testing.assert_allclose(sampled.shapley, exact.shapley, atol=0.03)
    np.testing.assert_allclose(sampled.curves, exact.curves, atol=0.03)
    assert "64 drawn orders" in truth_page(sampled)


def test_samples_are_even_over_classes():
    labels = [0] * 7 + [2] * 3 + [1] * 20
    network = ByParts(lambda there: 0.2 + 0.1 * there[:, 0])
    found = explain(network, BASELINE, ones(labels), FIVE, samples_per_class=4)
    assert np.bincount(found.labels).tolist() == [4, 4, 3]
    assert len(set(found.ids)) == 11
    assert found.by_class().shape == (3, 5)
    again = explain(network, BASELINE, ones(labels), FIVE, samples_per_class=4)
    assert again.ids == found.ids


def test_intervals():
    """By hand: two classes with variances 2 and 8 within; a class alone; no class with two samples; one sample."""
    found = over_samples(np.array([1.0, 3.0, 10.0, 14.0]), np.array([0, 0, 3, 3]))
    assert (found.value, found.freedom) == (7.0, 2)
    assert found.variance == pytest.approx(5 * (1 / 2 + 1 / 2) / 4)
    assert over_samples(np.array([1.0, 3.0]), np.array([1, 1])).variance == pytest.approx(1)
    alone = over_samples(np.array([1.0, 3.0, 5.0]), np.array([0, 1, 2]))
    assert (alone.value, alone.variance, alone.freedom) == (3, pytest.approx(4 / 3), 2)
    assert over_samples(np.array([1.0]), np.array([1])).low == -np.inf
    np.testing.assert_allclose(area(np.array([[1.0, 0.5, 0.0], [1, 1, 1]])), [0.5, 1])


def test_intervals_cover():
    """Of 400 sets of samples, 95 % of the intervals hold the true mean."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 5)
    found = [over_samples(rng.normal(labels, 1.0), labels) for _ in range(400)]
    assert 0.92 < np.mean([one.low < 1.5 < one.high for one in found]) < 0.98


def test_file(tmp_path):
    path, weights = tmp_path / "explanation.npz", tmp_path / "last.pt"
    network, loader, baseline = network_and_samples()
    weights.write_bytes(b"weights")
    found = explain(network, baseline, loader, FIVE, weights=module.file_checksum(weights))
    found.save(path)
    again = load(path, weights)
    for key, value in vars(found).items():
        np.testing.assert_array_equal(getattr(again, key), value)
    assert truth_page(again) == truth_page(found)
    weights.write_bytes(b"others")
    with pytest.raises(ValueError, match=r"belongs to other weights than .*last.pt; python -m tools.saliency"):
        load(path, weights)
    whole = path.read_bytes()
    for damaged in (whole[:200], whole[:-400] + b"x" * 400, b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"explanation.npz (is|has)"):
            load(path)
    np.savez(path, **{**vars(found), "labels": found.labels + 1})
    with pytest.raises(ValueError, match="do not fit together"):
        load(path)
    path.unlink()
    with pytest.raises(ValueError, match=r"does not exist; python -m tools.saliency"):
        load(path)


def test_what_does_not_fit():
    network, loader, baseline = network_and_samples()
    with pytest.raises(ValueError, match=r"\(C, T, V, M\) \(2, 3, 6, 1\) with a baseline of shape \(2, 2, 6, 1\)"):
        explain(network, baseline[:, :2], loader, FIVE)
    with pytest.raises(ValueError, match="cannot explain 0 samples"):
        explain(network, baseline, loader, FIVE, samples_per_class=0)
    with torch.no_grad():
        network[3].bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite for test samples sample 0"):
        explain(network, baseline, loader, FIVE)
    assert len(CURVES) == 2
