"""What a trained network looks at: exact contributions of body parts, by class.

Shapes: N batch, K classes, P parts, S coalitions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from feeders.loader import Loader
from shapmix import Mixer, ShapMix, SkeletonLayout, exact_contributions

Coalition = tuple[int, ...]


@dataclass(frozen=True)
class ClassContributions:
    """Means over each class's test samples, on the CPU.

    Attributes:
        coalitions: the S coalitions.
        exact: (K, S) exact contributions, each clipped at 0 by sample and times scale / joints, as they
            would enter the saliency table.
        parts: (K, P) Shapley values of the single parts.
        table: (K, S) the saliency table as training left it.
        guidance: (K,) how far from uniform guided mixing draws each class's coalitions, see ShapMix.guidance.
    """

    layout: SkeletonLayout
    coalitions: tuple[Coalition, ...]
    exact: Tensor
    parts: Tensor
    table: Tensor
    guidance: Tensor

    def top(self, values: Tensor, label: int, size: int) -> Coalition:
        """The coalition of ``size`` parts with the largest value in a class's row."""
        row = zip(values[label].tolist(), self.coalitions, strict=True)
        return max((value, coalition) for value, coalition in row if len(coalition) == size)[1]

    def rank_correlation(self) -> list[float]:
        """(K,) Spearman's correlation of each class's table row with its exact one, -1 .. 1; NaN for a constant row."""
        pairs = zip(self.table.numpy(), self.exact.numpy(), strict=True)
        return [float(spearmanr(*pair).statistic) if all(map(np.ptp, pair)) else np.nan for pair in pairs]


def class_contributions(
    network: nn.Module, mixer: Mixer | None, loader: Loader, batch_size: int = 16
) -> ClassContributions:
    """Exact contributions of every coalition and part on a split. Cost: ``2**P`` forward passes a sample.

    Raises:
        ValueError: the run has no baseline, because it did not estimate contributions.
    """
    if not isinstance(mixer, ShapMix) or mixer.baseline is None:
        raise ValueError("this run estimated no contributions (mixing is not shap_mix): there is no baseline")
    layout, table = mixer.layout, mixer.saliency
    size, gain = len(table.coalitions), torch.tensor(table.gain)
    players = [*table.coalitions, *((part,) for part in range(layout.num_parts))]
    sums = torch.zeros(mixer.num_class, len(players))
    for batch in loader.in_order(batch_size):
        y = batch.y.repeat_interleave(batch.clips)
        most = 32 * len(batch.x)  # those of five parts in one forward call; with more parts in several
        values = exact_contributions(network, batch.x, y, mixer.baseline, layout, players, max_batch=most)
        values = values.view(len(batch.y), batch.clips, -1).mean(1).float().cpu()
        values[:, :size] = values[:, :size].clamp(min=0) * gain
        sums.index_add_(0, batch.y.cpu(), values)
    counts = torch.tensor(loader.class_counts).clamp(min=1).unsqueeze(1)
    exact, parts = (sums / counts).split([size, layout.num_parts], dim=1)
    return ClassContributions(layout, table.coalitions, exact, parts, table.table.float().cpu(), mixer.guidance())


def contribution_page(found: ClassContributions, class_names: Sequence[str], class_counts: Sequence[int]) -> str:
    """A line for each class: its best pair by exact contribution and by the table, its guidance, its parts' values."""
    names = found.layout.part_names
    size = min(len(coalition) for coalition in found.coalitions)
    pairs = [" + ".join(names[part] for part in coalition) for coalition in found.coalitions if len(coalition) == size]
    wide = max(22, *map(len, pairs))
    best = f"{'exact':<{wide}} {'table':<{wide}}"
    lines = [f"{'class':<24} {'train':>5}  {best} guidance  Shapley values of {', '.join(names)}"]
    for label, (name, count) in enumerate(zip(class_names, class_counts, strict=True)):
        tops = [found.top(values, label, size) for values in (found.exact, found.table)]
        best = " ".join(f"{' + '.join(names[part] for part in coalition):<{wide}}" for coalition in tops)
        shares = " ".join(f"{value:6.2f}" for value in found.parts[label].tolist())
        guidance = found.guidance[label].item()
        lines.append(f"{name[:24]:<24} {count:>5}  {best} {guidance:>8.2f}  {shares}")
    return "\n".join(lines)


def correlation_line(found: ClassContributions, groups: Mapping[str, Sequence[int]]) -> str:
    """How well the table ranks the coalitions: the mean rank correlation of each shot group's classes."""
    values = np.array(found.rank_correlation())
    known = {group: values[list(own)] for group, own in groups.items() if not np.isnan(values[list(own)]).all()}
    means = [f"{group} {np.nanmean(of_group):.2f}" for group, of_group in known.items()]
    return f"rank correlation of table and exact contributions: {', '.join(means) or 'not known'}"
