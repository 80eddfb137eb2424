"""Metrics of a classifier on a split. n samples, K classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from sklearn.metrics import accuracy_score, recall_score, top_k_accuracy_score
from torch import Tensor

from .host import plain


def classification_metrics(
    scores: np.ndarray, labels: np.ndarray, groups: Mapping[str, Sequence[int]], topk: Sequence[int] = (1, 5)
) -> dict[str, Any]:
    """Accuracies and calibration of scores (n, K), which are logits, against labels (n,), as shares 0 .. 1.

    Returns:
        ``top1``, ``top5`` and other ``topk``; ``mean_class_accuracy`` over the classes that occur, which is
        scikit-learn's balanced accuracy; a value for each group, the mean of its classes' accuracies, None where it
        has none; ``per_class``, None for absent classes; ``ece``, see :func:`expected_calibration_error`.
    """
    num_class = scores.shape[1]
    everyone = np.arange(num_class)
    metrics: dict[str, Any] = {}
    for k in sorted({1, 5, *topk}):
        if k == 1:
            metrics["top1"] = float(accuracy_score(labels, scores.argmax(1)))
        else:
            hit = 1.0 if k >= num_class else top_k_accuracy_score(labels, scores, k=k, labels=everyone)
            metrics[f"top{k}"] = float(hit)
    per_class = recall_score(labels, scores.argmax(1), labels=everyone, average=None, zero_division=np.nan)
    metrics["mean_class_accuracy"] = _mean(per_class)
    for group, members in groups.items():
        metrics[group] = _mean(per_class[list(members)])
    metrics["per_class"] = [None if np.isnan(value) else float(value) for value in per_class]
    metrics["ece"] = expected_calibration_error(scores, labels)
    return metrics


def group_means(name: str, values: Sequence[float], groups: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """``name_group``: the mean over a group's classes of one value a class (K,), for each group that has classes."""
    return {f"{name}_{group}": float(np.mean([values[k] for k in own])) for group, own in groups.items() if own}


def fitted_temperature(logits: Tensor, labels: Tensor) -> float:
    """The number above 0 by which logits (n, K) are divided so that their cross-entropy with labels (n,) is smallest.

    Temperature scaling (Guo et al., ICML 2017). It changes no prediction.
    """

    def cost(log_temperature: float) -> float:
        return F.cross_entropy(logits.double() / math.exp(log_temperature), labels).item()

    return math.exp(minimize_scalar(cost, bounds=(-5, 5), method="bounded").x)


def expected_calibration_error(scores: np.ndarray, labels: np.ndarray) -> float:
    """How far confidence, the largest softmax of the logits (n, K), is from accuracy, as a share 0 .. 1.

    The mean over samples of the distance between accuracy and mean confidence in a sample's bin, of 15 equal bins of
    confidence (Guo et al., On Calibration of Modern Neural Networks, ICML 2017).
    """
    shifted = scores.astype(np.float64) - scores.max(1, keepdims=True)
    confidence = 1 / np.exp(shifted).sum(1)
    place = np.digitize(confidence, np.linspace(0, 1, 16)[1:-1], right=True)
    surplus = np.bincount(place, confidence - (scores.argmax(1) == labels))
    return float(np.abs(surplus).sum() / len(labels))


def table(
    metrics: Mapping[str, Any],
    class_names: Sequence[str],
    class_counts: Sequence[int] | None,
    groups: Mapping[str, Sequence[int]],
) -> str:
    """The metrics as text: overall, groups, classes with their training counts, ``-`` where these are unknown."""
    width = min(40, max(len("expected calibration error"), *map(len, class_names)))

    def line(name: str, value: float | None, more: object = "") -> str:
        percent = "    -" if value is None else f"{100 * value:5.1f}"
        return f"{plain(name)[:width]:<{width}} {percent} %  {more}".rstrip()

    lines = [line("overall (top-1)", metrics["top1"]), line("top-5", metrics["top5"])]
    lines.append(line("mean class accuracy", metrics["mean_class_accuracy"]))
    lines.append(line("expected calibration error", metrics["ece"]))
    for group, members in groups.items():
        lines.append(line(f"{group} shot", metrics[group], f"({len(members)} classes)"))
    lines.append(f"{'class':<{width}} {'acc':>5}    training samples")
    counts = ["-"] * len(class_names) if class_counts is None else class_counts
    for name, value, count in zip(class_names, metrics["per_class"], counts, strict=True):
        lines.append(line(name, value, count))
    return "\n".join(lines)


def epoch_line(metrics: Mapping[str, Any]) -> str:
    """One line about an epoch, as the log has it."""
    text = "epoch {epoch:3d}".format(**metrics)
    if "train_loss" in metrics:
        text += "  lr {lr:.4f}  loss {train_loss:.4f}, mixed {train_mix_loss:.4f}".format(**metrics)
        text += "  {samples_per_s:.0f} samples/s".format(**metrics)
    if "top1" in metrics:
        text += f"  test top-1 {100 * metrics['top1']:.1f} %, mean class {100 * metrics['mean_class_accuracy']:.1f} %"
    return text


def best_test_epoch(every_epoch: bool) -> str:
    """What the best epoch on the test split is called: published only where every epoch was evaluated."""
    if every_epoch:
        return "best_test_epoch (published protocol)"
    return "best evaluated epoch on the test split (the published protocol evaluates every epoch)"


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
