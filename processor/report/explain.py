"""Is the explanation true? A network's probability while body parts are removed in the order of their Shapley values.

A part is removed by putting the baseline in its place (docs/method.md, "Contribution of a coalition"). ``v(A)`` is the
probability of the true class when only the parts in A are present; over the clips of a sample it is their mean. If the
Shapley values are true, the probability falls faster than in a random order while the parts with the largest ones are
removed first (*deletion*), and rises faster while they are put back first (*insertion*). The curves are those of RISE
(Petsiuk et al., BMVC 2018).

Shapes: n samples, N batch, C coordinates, T frames, V joints, M people, K classes, P parts, E sets of parts.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from feeders.files import write_atomically
from feeders.loader import Loader
from shapmix import Mixer, ShapMix, SkeletonLayout
from shapmix.draws import generator
from shapmix.shapley import contributions, exact_terms

from ..checkpoint import file_checksum
from ..config import Config
from ..data import Data, mean_sequence
from ..errors import ConfigError
from ..network import layout_of
from ..scores import npz_arrays
from ..study.statistics import Difference

EXACT_PARTS = 8  # with more parts, orders are sampled instead of all 2**P sets
SAMPLED_ORDERS = 64
SMALLEST_GAIN = 1e-3  # of an area, 0 .. 1: less is no gain, whatever its interval says
CURVES = ("deletion", "insertion")
ORDERS = ("shapley", "reverse", "random", "ablation")
FIELDS = {  # of the file: kinds of numpy's dtypes, and dimensions
    "weights": ("U", 0), "ids": ("U", 1), "labels": ("iu", 1), "class_names": ("U", 1), "part_names": ("U", 1),
    "shapley": ("f", 2), "ablation": ("f", 2), "curves": ("f", 4), "sampled_orders": ("iu", 0),
}  # fmt: skip
Value = Callable[[Tensor], Tensor]  # present parts (N, E, P) bool -> v (N, E)


@dataclass(frozen=True, eq=False)
class Explanation:
    """Shapley values of some test samples, and what becomes of their probability while parts are removed.

    Attributes:
        weights: checksum of the checkpoint that it belongs to.
        ids, labels: n names and true classes.
        class_names, part_names: K and P names.
        shapley: (n, P) Shapley values of the parts for the true class's probability, -1 .. 1.
        ablation: (n, P) by how much the probability falls when a part alone is removed (captum's FeatureAblation).
        curves: (2, 4, n, P + 1) probability after 0 .. P parts were removed (``CURVES[0]``) or put back, by ``ORDERS``:
            largest Shapley value first, smallest first, the mean over all orders, largest ablation first.
        sampled_orders: from how many drawn orders Shapley values and random curves are; 0: from all, exactly.
    """

    weights: str
    ids: list[str]
    labels: np.ndarray
    class_names: list[str]
    part_names: list[str]
    shapley: np.ndarray
    ablation: np.ndarray
    curves: np.ndarray
    sampled_orders: int = 0

    def curve(self, kind: str, order: str) -> np.ndarray:
        """(n, P + 1) of one kind and order."""
        found: np.ndarray = self.curves[CURVES.index(kind), ORDERS.index(order)]
        return found

    def by_class(self) -> np.ndarray:
        """(K, P) mean Shapley values of the samples of each class; NaN for a class without samples."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))[:, None]
        sums = np.zeros((len(counts), len(self.part_names)))
        np.add.at(sums, self.labels, self.shapley)
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)

    def area(self, kind: str, order: str) -> Difference:
        """Area under a curve, 0 .. 1, as :func:`over_samples` has it."""
        return over_samples(area(self.curve(kind, order)), self.labels)

    def gain(self, kind: str, order: str) -> Difference:
        """By how much an order is better than a random one: the smaller area of deletion, the larger of insertion."""
        sign = -1 if kind == "deletion" else 1
        gains = sign * (area(self.curve(kind, order)) - area(self.curve(kind, "random")))
        return over_samples(gains, self.labels)

    def is_better_than_chance(self, kind: str = "deletion", order: str = "shapley") -> bool:
        """Does the 95 % interval of the gain exclude zero, and is the gain more than rounding?"""
        gain = self.gain(kind, order)
        return gain.low > 0 and gain.value >= SMALLEST_GAIN

    def verdict(self) -> str:
        """Whether the Shapley values are true, in a sentence or two."""
        gain = self.gain("deletion", "shapley")
        found = f"{gain.value:.3f} ({gain.low:.3f} to {gain.high:.3f})"
        if self.is_better_than_chance():
            return (
                "Removing body parts in the order of their Shapley values lowers the probability of the true class "
                f"faster than removing them at random: the area under the curve is smaller by {found}."
            )
        return (
            "This order is not better than chance: removing body parts by their Shapley values does not lower the "
            f"probability of the true class faster than at random (gain {found}). Do not trust the values."
        )

    def save(self, path: Path) -> None:
        """Writes an .npz without pickles; the file is whole at any moment."""
        content = io.BytesIO()
        np.savez_compressed(content, **vars(self))
        write_atomically(path, content)


def load(path: Path, weights: Path | None = None) -> Explanation:
    """Reads what :meth:`Explanation.save` wrote.

    Args:
        weights: the checkpoint that it must belong to.

    Raises:
        ValueError: the file is missing, damaged, something else, or belongs to other weights.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist; python -m tools.saliency {path.parent} writes it")
    again = f"python -m tools.saliency {path.parent} writes it again"
    found = npz_arrays(path, FIELDS)
    for key, (kind, ndim) in FIELDS.items():
        if key not in found or found[key].dtype.kind not in kind or found[key].ndim != ndim:
            raise ValueError(f"{path} has no {key} as an explanation has it; {again}")
    n, parts = found["shapley"].shape
    fits = found["labels"].shape == found["ids"].shape == (n,) and found["part_names"].shape == (parts,)
    inside = n > 0 and found["labels"].min() >= 0 and found["labels"].max() < len(found["class_names"])
    wanted = len(CURVES), len(ORDERS), n, parts + 1
    fits = fits and found["ablation"].shape == (n, parts)
    if not (fits and inside and found["curves"].shape == wanted and np.isfinite(found["curves"]).all()):
        raise ValueError(f"{path}: its arrays do not fit together; {again}")
    if weights is not None and file_checksum(weights) != found["weights"].item():
        raise ValueError(f"{path} belongs to other weights than {weights}; {again}")
    plain = {key: array.item() for key, array in found.items() if array.ndim == 0}
    lists = {key: found[key].tolist() for key in ("ids", "class_names", "part_names")}
    return Explanation(**{**found, **plain, **lists})


def explain(
    network: nn.Module,
    baseline: Tensor,
    loader: Loader,
    layout: SkeletonLayout,
    samples_per_class: int = 10,
    weights: str = "",
    max_batch: int = 128,
) -> Explanation:
    """Explains up to ``samples_per_class`` samples of each class of a split; which ones depends on the seed alone.

    Cost: ``2**P`` samples forward for each clip of a sample. All the rest is looked up from these: Shapley values,
    curves of every order, and the random curve, which is the mean over all sets of each size and so the mean over all
    orders. With more than ``EXACT_PARTS`` parts, ``SAMPLED_ORDERS`` orders are drawn instead, each with its reverse:
    about ``(SAMPLED_ORDERS + 5) * P`` samples forward. At most ``max_batch`` go in one call. No gradients; the network
    is left in its mode. Every process that calls it explains all samples by itself.

    Args:
        network: x (N, C, T, V, M) -> logits (N, K).
        baseline: (C, T, V, M), what stands for a removed part, see :func:`run_baseline`.
        loader: the test split.
        layout: of its joints.
        weights: checksum of the network's checkpoint.

    Raises:
        ValueError: baseline, layout and samples do not fit together, or a probability is not finite.
    """
    if samples_per_class < 1 or baseline.shape != loader.sample_shape:
        raise ValueError(
            f"cannot explain {samples_per_class} samples of each class of shape (C, T, V, M) {loader.sample_shape} "
            f"with a baseline of shape {tuple(baseline.shape)}; wanted 1 or more, and the same shape"
        )
    everyone = loader.of_each_class(samples_per_class, 0)
    table: list[Tensor] = []
    for batch in loader.in_order(max(1, max_batch // 8), everyone.repeat_interleave(loader.processes)):
        y = batch.y.repeat_interleave(batch.clips)
        value = partial(probabilities, network, batch.x, y, baseline, layout, batch.clips, max_batch)
        table.append(_explained(value, len(batch.y), layout.num_parts, loader.seed))
    found = torch.cat(table).double().cpu()
    if not found.isfinite().all():
        bad = [loader.ids[row] for row in everyone[(~found.isfinite()).flatten(1).any(1)][:5].tolist()]
        raise ValueError(f"the network's scores are not finite for test samples {', '.join(bad)}")
    parts = layout.num_parts
    shapley, ablation, curves = found.split([parts, parts, len(CURVES) * len(ORDERS) * (parts + 1)], 1)
    curves = curves.view(len(found), len(CURVES), len(ORDERS), parts + 1).permute(1, 2, 0, 3)
    return Explanation(
        weights, [loader.ids[row] for row in everyone.tolist()], loader.labels[everyone].numpy(),
        list(loader.class_names), list(layout.part_names), shapley.numpy(), ablation.numpy(), curves.numpy(),
        0 if parts <= EXACT_PARTS else SAMPLED_ORDERS,
    )  # fmt: skip


def run_baseline(config: Config, data: Data, mixer: Mixer | None) -> Tensor:
    """The baseline (C, T, V, M) of a run: its mixer's, else the mean sequence, by a pass over the training set."""
    if isinstance(mixer, ShapMix) and mixer.baseline is not None:
        return mixer.baseline
    return mean_sequence(data.loaders["train"], config.test_batch_size, config.baseline == "published")


def explain_run(
    config: Config, data: Data, network: nn.Module, mixer: Mixer | None, weights: Path, samples_per_class: int = 10
) -> Explanation:
    """Explains test samples of a run, see :func:`explain`.

    Args:
        network, mixer: as they are in the checkpoint ``weights``.

    Raises:
        ConfigError: the layout is not known.
    """
    layout = layout_of(config, data.feeders["train"])
    if layout is None:
        raise ConfigError(f"{config.config}: layout is missing: which joints form a body part is not known")
    baseline = run_baseline(config, data, mixer)
    return explain(network, baseline, data.loaders["test"], layout, samples_per_class, file_checksum(weights))


# --- one batch -------------------------------------------------------------------------------------------------------


def probabilities(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    baseline: Tensor,
    layout: SkeletonLayout,
    clips: int,
    max_batch: int,
    present: Tensor,
) -> Tensor:
    """v (N, E) of the present parts (N, E, P) bool, of x (N * clips, C, T, V, M) and classes y (N * clips,)."""
    sets = present.repeat_interleave(clips, 0)  # (N * clips, E, P)
    joints = (sets.float() @ layout.membership().float() > 0).flatten(0, 1)  # (N * clips * E, V)
    rows = torch.arange(len(x)).repeat_interleave(sets.shape[1])
    everything = {tuple(range(layout.num_parts)): 1.0}
    values = []
    for own, shown in zip(rows.split(max_batch), joints.split(max_batch), strict=True):
        own, mask = own.to(x.device), shown.to(x.device)[:, None, None, :, None]
        masked = torch.where(mask, x[own], baseline.to(x))
        values.append(contributions(network, masked, y[own], baseline, layout, [everything])[:, 0])
    return torch.cat(values).view(-1, clips, sets.shape[1]).double().mean(1).cpu()


def _explained(value: Value, size: int, parts: int, seed: int) -> Tensor:
    """A row for each of N = ``size`` samples: P Shapley values, P ablations, the curves, see :class:`Explanation`."""
    if parts <= EXACT_PARTS:
        value = looked_up(value, size, parts)
        shapley, random = exactly(value, size, parts)
    else:
        shapley, random = by_sampled_orders(value, size, parts, seed)
    alone = ~torch.eye(parts, dtype=torch.bool).expand(size, parts, parts)  # all parts but one
    ablation = value(torch.ones(size, 1, parts, dtype=torch.bool)) - value(alone)
    paths = [first_parts(descending(values)) for values in (shapley, ablation)]
    by_shapley, by_ablation = ((value(~path), value(path)) for path in paths)  # deletion, insertion
    backwards = by_shapley[1].flip(1), by_shapley[0].flip(1)  # who removes the smallest first, keeps the largest
    curves = [by_shapley, backwards, (random.flip(1), random), by_ablation]
    return torch.cat([shapley, ablation, *(order[kind] for kind in range(len(CURVES)) for order in curves)], 1)


def looked_up(value: Value, size: int, parts: int) -> Value:
    """The same values from a table of all ``2**P`` sets, which is computed once."""
    table = value(all_sets(parts).expand(size, -1, -1))
    bits = 2 ** torch.arange(parts)
    return lambda present: table.gather(1, (present * bits).sum(-1))


def all_sets(parts: int) -> Tensor:
    """(2**P, P) bool: part p is in set number e where bit p of e is 1."""
    return (torch.arange(2**parts)[:, None] >> torch.arange(parts)) % 2 == 1


def exactly(value: Value, size: int, parts: int) -> tuple[Tensor, Tensor]:
    """Shapley values (N, P), and (N, P + 1) the mean of v over all sets of 0 .. P parts."""
    sets = all_sets(parts)
    values = value(sets.expand(size, -1, -1))
    numbers = {tuple(own.nonzero().flatten().tolist()): number for number, own in enumerate(sets)}
    weights = torch.zeros(len(sets), parts, dtype=values.dtype)
    for part in range(parts):
        for members, weight in exact_terms(parts, (part,)).items():
            weights[numbers[members], part] = weight
    of_size = torch.nn.functional.one_hot(sets.sum(1)).to(values)  # (2**P, P + 1)
    return values @ weights, values @ (of_size / of_size.sum(0))


def by_sampled_orders(value: Value, size: int, parts: int, seed: int) -> tuple[Tensor, Tensor]:
    """The same from orders that are drawn, each with its reverse; all samples get the same ones."""
    rng = generator(seed, "explanation")
    drawn = torch.stack([torch.randperm(parts, generator=rng) for _ in range(SAMPLED_ORDERS // 2)])
    orders = torch.cat([drawn, drawn.flip(1)])  # (R, P)
    paths = first_parts(orders).flatten(0, 1).expand(size, -1, -1)
    values = value(paths).view(size, len(orders), parts + 1)
    steps = values.diff(dim=2)  # what each part adds where it comes
    shapley = torch.zeros_like(steps).scatter_(2, orders.expand(size, -1, -1), steps).mean(1)
    return shapley, values.mean(1)


def descending(values: Tensor) -> Tensor:
    """(N, P) parts by their values (N, P), the largest first; of equals, the one with the smaller number."""
    return values.argsort(dim=1, descending=True, stable=True)


def first_parts(orders: Tensor) -> Tensor:
    """(N, P + 1, P) bool: the first 0 .. P parts of each order (N, P)."""
    place = orders.argsort(1)  # where each part comes
    return place[:, None, :] < torch.arange(orders.shape[1] + 1)[:, None]


# --- areas -----------------------------------------------------------------------------------------------------------


def area(curves: np.ndarray) -> np.ndarray:
    """(n,) areas under curves (n, P + 1), by trapezoids over 0 .. 1."""
    areas: np.ndarray = (curves[:, 1:] + curves[:, :-1]).mean(1) / 2
    return areas


def over_samples(values: np.ndarray, labels: np.ndarray) -> Difference:
    """The mean over classes of the class means of values (n,), with its interval over samples by Student's t.

    Network and classes are taken as given: the variance is that of samples within a class, the same for all classes.
    Where no class has two samples, it is that of all samples, which is larger. A single sample has no interval: it is
    infinite.
    """
    classes, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.bincount(place, values) / counts
    freedom = len(values) - len(classes)
    rest = values - means[place] if freedom > 0 else values - values.mean()
    freedom = freedom or len(values) - 1
    if freedom == 0:
        return Difference(float(means.mean()), float("inf"), 1, 1)
    variance = float((rest**2).sum()) / freedom * float((1 / counts).sum()) / len(classes) ** 2
    return Difference(float(means.mean()), variance, freedom, 1)


def parts_page(found: Explanation, class_counts: Sequence[int]) -> str:
    """A line for each class: its training samples and the mean Shapley values of its explained samples."""
    lines = [f"{'class':<24} {'train':>5}  Shapley values of {', '.join(found.part_names)}"]
    for name, count, values in zip(found.class_names, class_counts, found.by_class().tolist(), strict=True):
        lines.append(f"{name[:24]:<24} {count:>5}  {' '.join(f'{value:6.2f}' for value in values)}")
    return "\n".join(lines)


def truth_page(found: Explanation) -> str:
    """The areas, their gains and intervals as a table, and the verdict."""
    drawn = f"{found.sampled_orders} drawn orders" if found.sampled_orders else "all orders, exactly"
    lines = [
        f"Is it true? Area under the probability of {len(found.ids)} test samples, evenly by class, while body parts "
        "are removed",
        f"(deletion: less is better) or put back (insertion: more is better); Shapley values and random from {drawn}",
        f"{'order':<10} {'deletion':>8} {'gain over random (95 %)':>26} "
        f"{'insertion':>10} {'gain over random (95 %)':>26}",
    ]
    for order in ORDERS:
        cells = [f"{order:<10}"]
        for kind, width in zip(CURVES, (8, 10), strict=True):
            gain = found.gain(kind, order)
            interval = "" if order == "random" else f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
            cells.append(f"{found.area(kind, order).value:>{width}.3f} {interval:>26}")
        lines.append(" ".join(cells).rstrip())
    return "\n".join([*lines, found.verdict()])
