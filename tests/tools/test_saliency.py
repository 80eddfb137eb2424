"""tools.saliency: exact contributions by class, compared with a loop over all orders of the parts; and its page."""

from __future__ import annotations

import dataclasses
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import main
from feeders.loader import Batch
from processor.checkpoint import load_checkpoint
from processor.report.explain import ORDERS, load, parts_page, truth_page
from processor.study.saliency import class_contributions, contribution_page, correlation_line
from shapmix import ShapMix, SkeletonLayout
from tools import saliency

THREE_PARTS = SkeletonLayout(
    name="three",
    joint_names=("hip", "left", "right", "hand"),
    bones=((1, 0), (2, 0), (3, 2)),
    parts={"hip": (0,), "left": (1,), "right": (2, 3)},
)
FRAMES, LABELS = 4, [0, 1, 1, 2, 0]


def network() -> nn.Module:
    """(N, 2, FRAMES, 4, 1) -> (N, 3), not linear, so that parts act together."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(2 * FRAMES * 4, 6), nn.Tanh(), nn.Linear(6, 3))


def mixer(**options: object) -> ShapMix:
    baseline = torch.randn(2, FRAMES, 4, 1, generator=torch.Generator().manual_seed(2))
    made = ShapMix(THREE_PARTS, [9, 4, 1], **{"baseline": baseline, **options})
    made.saliency.table.copy_(torch.rand(made.saliency.table.shape, generator=torch.Generator().manual_seed(3)))
    return made


def loader(clips: int = 1) -> SimpleNamespace:
    """Five samples in batches of two; a class has its clips in turn."""
    x = torch.randn(len(LABELS) * clips, 2, FRAMES, 4, 1, generator=torch.Generator().manual_seed(4))
    rows, y = torch.arange(len(LABELS)), torch.tensor(LABELS)
    batches = [
        Batch(x[first * clips : (first + 2) * clips], y[first : first + 2], rows[first : first + 2], clips)
        for first in range(0, len(LABELS), 2)
    ]
    return SimpleNamespace(in_order=lambda size: iter(batches), class_counts=[2, 2, 1], x=x)


@torch.no_grad()
def by_orders(net: nn.Module, x: torch.Tensor, label: int, baseline: torch.Tensor, player: tuple[int, ...]) -> float:
    """The Shapley value of a player beside the other parts: the mean over all orders in which they may come."""

    def value(parts: list[int]) -> float:
        present = torch.zeros(4, dtype=torch.bool)
        for part in parts:
            present[list(list(THREE_PARTS.parts.values())[part])] = True
        shown = torch.where(present[None, None, :, None], x, baseline)
        return net(shown[None]).softmax(1)[0, label].item()

    others = [part for part in range(3) if part not in player]
    found = []
    for order in permutations([*((part,) for part in others), player]):
        before = [part for members in order[: order.index(player)] for part in members]
        found.append(value([*before, *player]) - value(before))
    return sum(found) / len(found)


@pytest.mark.parametrize("clips", [1, 3])
def test_contributions_are_means_over_all_orders(clips):
    net, mix, data = network(), mixer(), loader(clips)
    found = class_contributions(net, mix, data)
    assert found.coalitions == ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2))
    for label in range(3):
        samples = [place for place, own in enumerate(LABELS) if own == label]
        for player, column in zip(found.coalitions, found.exact[label].tolist(), strict=True):
            of_samples = []
            for sample in samples:
                views = data.x[sample * clips : (sample + 1) * clips]
                of_samples.append(sum(by_orders(net, x, label, mix.baseline, player) for x in views) / clips)
            joints = sum(len(list(THREE_PARTS.parts.values())[part]) for part in player)
            clipped = sum(max(0.0, value) for value in of_samples) / len(samples) * 10 / joints
            assert column == pytest.approx(clipped, abs=1e-6)
            if len(player) == 1:
                assert found.parts[label, player[0]].item() == pytest.approx(sum(of_samples) / len(samples), abs=1e-6)
    assert (found.exact == 0).any(), "some contribution was clipped"
    assert torch.equal(found.table, mix.saliency.table)


def test_page():
    """The best pair is the largest of its size; the last columns are guidance and the parts' values."""
    mix = mixer(coalition_sizes=[2])
    found = class_contributions(network(), mix, loader())
    lines = contribution_page(found, ["wave", "kick", "bow"], [9, 4, 1]).splitlines()
    names = {(0, 1): "hip + left", (0, 2): "hip + right", (1, 2): "left + right"}
    assert len(lines) == 4
    for label, (line, name, count) in enumerate(zip(lines[1:], ["wave", "kick", "bow"], "941", strict=True)):
        best = [names[found.coalitions[values[label].argmax()]] for values in (found.exact, found.table)]
        numbers = [mix.guidance()[label], *found.parts[label]]
        words = [name, count, *best[0].split(), *best[1].split(), *(f"{float(number):.2f}" for number in numbers)]
        assert line.split() == words


def test_rank_correlation():
    """1 for the same order whatever the scale, -1 for the reverse; a row of one value says nothing."""
    found = class_contributions(network(), mixer(), loader())
    exact = torch.arange(found.exact.shape[1]).float().expand_as(found.exact)
    table = torch.stack([exact[0] ** 3 + 5, -exact[0], torch.ones_like(exact[0])])
    known = dataclasses.replace(found, exact=exact, table=table)
    assert known.rank_correlation() == pytest.approx([1, -1, np.nan], nan_ok=True)
    said = correlation_line(known, {"many": [0], "medium": [0, 1, 2], "few": [2]})
    assert said.endswith(": many 1.00, medium 0.00")


def test_run(write_config, tmp_path, capsys):
    """The run's own table, network and baseline, found from its folder alone; the explanation is kept there."""
    assert main.main(["--config", write_config()]) == 0
    capsys.readouterr()
    assert saliency.main([str(tmp_path / "run"), "--device", "cpu", "--samples", "1"]) == 0
    printed = capsys.readouterr().out.splitlines()
    lines = [line for line in printed if " + " in line]
    assert [line.split()[0] for line in lines][:3] == ["wave_right", "kick_left", "bow"]
    assert len(lines) == 12
    kept = load(tmp_path / "run" / "explanation.npz", tmp_path / "run" / "last.pt")
    assert len(kept.ids) == 12
    assert printed[-len(ORDERS) - 1 :] == truth_page(kept).splitlines()[-len(ORDERS) - 1 :]


def test_a_run_without_a_table(write_config, tmp_path, capsys):
    """The parts' values by class, and the same test; the baseline is the mean of the training set."""
    assert main.main(["--config", write_config(mixing="none", num_epoch=1)]) == 0
    capsys.readouterr()
    words = [str(tmp_path / "run"), "--device", "cpu", "--samples"]
    assert saliency.main([*words, "2"]) == 0
    printed = capsys.readouterr().out
    kept = load(tmp_path / "run" / "explanation.npz")
    assert printed.splitlines()[1 : 2 + 12] == parts_page(kept, [8, 7, 6, 5, 4, 4, 3, 3, 2, 2, 2, 2]).splitlines()
    assert "probability of 24 test samples" in printed
    assert saliency.main([*words, "2", "--refresh"]) == 2
    assert "has no saliency table, because mixing is none" in capsys.readouterr().err
    assert saliency.main([*words, "0"]) == 2
    assert "cannot explain 0 samples" in capsys.readouterr().err


def test_refreshed_as_in_training(write_config, tmp_path, capsys, monkeypatch):
    """From the weights before epoch 1 the same table comes out that training then had."""
    exact = {"estimator": "refresh", "standardise": True, "temperature": 1}
    keys = {"naive_mix_epoch": 1, "num_epoch": 2, "save_interval": 1, "refresh_samples": 3, "mixing_args": exact}
    assert main.main(["--config", write_config(**keys)]) == 0
    seen = []
    kept = saliency.contributions
    monkeypatch.setattr(saliency, "contributions", lambda run: (seen.append(run.mixer.saliency.table), kept(run))[1])
    capsys.readouterr()
    words = [str(tmp_path / "run"), "--device", "cpu", "--samples", "1", "--checkpoint", "epoch_0.pt"]
    assert saliency.main([*words, "--refresh"]) == 0
    assert "table is computed from 32 training samples" in capsys.readouterr().out
    assert saliency.main(words) == 0
    wanted = load_checkpoint(tmp_path / "run" / "last.pt")["mixer"]["saliency.table"]
    torch.testing.assert_close(seen[0], wanted)
    assert not torch.allclose(seen[1], wanted)


def test_no_run(tmp_path, capsys):
    assert saliency.main([str(tmp_path / "nothing")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert str(tmp_path / "nothing") in error
