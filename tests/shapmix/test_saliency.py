"""The saliency table's two update rules (docs/method.md, "Saliency table"), by hand and sample after sample."""

from __future__ import annotations

import pytest
import torch

from shapmix.saliency import INITIAL, SaliencyTable
from shapmix.skeleton import SkeletonLayout

LAYOUT = SkeletonLayout.get("ntu25")
COALITIONS = LAYOUT.coalitions()
PAIR = COALITIONS.index((1, 3))  # right arm and right leg: 6 + 4 joints
TRIPLE = COALITIONS.index((0, 1, 2))  # 5 + 6 + 6 joints


def saliency(**options):
    return SaliencyTable(4, LAYOUT, COALITIONS, **options)


def test_starts_at_the_initial_value():
    table = saliency().table
    assert table.shape == (4, 20)
    assert (table == torch.tensor(INITIAL)).all()
    assert INITIAL == 1e-6


def test_mean_update_by_hand():
    table = saliency(bias_correction=False)
    table.table[:, PAIR] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    target = torch.tensor([2, 0, 2, 2])
    contribution = torch.tensor([0.3, -0.5, 0.6, -0.2])  # clipped: 0.3, 0, 0.6, 0; a pair of 10 joints, scale 10
    table.update(PAIR, target, contribution, ema=0.9)
    want = torch.full((4, 20), INITIAL)
    want[:, PAIR] = torch.tensor([0.9 * 0.1, 0.2, 0.9 * 0.3 + 0.1 * (0.3 + 0.6 + 0.0) / 3, 0.4])
    torch.testing.assert_close(table.table, want)
    assert table.table[1, PAIR] == torch.tensor(0.2)  # absent classes are untouched, to the bit
    assert table.table[3, PAIR] == torch.tensor(0.4)


def test_without_decay_the_mean_replaces():
    table = saliency()
    table.table.fill_(7.0)
    table.update(TRIPLE, torch.tensor([1, 1, 3]), torch.tensor([0.17, 0.51, 0.85]), ema=0.0)
    want = torch.full((4, 20), 7.0)
    want[1, TRIPLE], want[3, TRIPLE] = 0.34 / 17 * 10, 0.85 / 17 * 10
    torch.testing.assert_close(table.table, want)


def test_scale_and_joints_of_the_layout():
    layout = SkeletonLayout.get("coco17")
    table = SaliencyTable(2, layout, layout.coalitions([1]), scale=3.0)
    for column, joints in enumerate([5, 3, 3, 3, 3]):
        table.update(column, torch.tensor([1]), torch.tensor([0.6]), ema=0.0)
        assert float(table.table[1, column]) == pytest.approx(3.0 * 0.6 / joints)


@pytest.mark.parametrize("ema", [0.0, 0.5, 0.9, 1.0])
def test_sequential_is_a_plain_loop(ema):
    rng = torch.Generator().manual_seed(3)
    table = saliency(update="sequential", bias_correction=False)
    table.table.copy_(torch.rand(4, 20, generator=rng))
    want = table.table.tolist()
    target = torch.tensor([0, 2, 2, 0, 2, 3, 2])
    contribution = 2 * torch.rand(7, generator=rng) - 1
    assert contribution.min() < 0 < contribution.max()
    table.update(TRIPLE, target, contribution, ema)
    for k, value in zip(target.tolist(), contribution.tolist(), strict=True):
        want[k][TRIPLE] = ema * want[k][TRIPLE] + (1 - ema) * max(0.0, value) / 17 * 10
    torch.testing.assert_close(table.table, torch.tensor(want))


def test_sequential_without_decay_keeps_the_last_sample():
    table = saliency(update="sequential")
    table.update(PAIR, torch.tensor([1, 1, 2, 1]), torch.tensor([0.9, 0.7, 0.4, 0.2]), ema=0.0)
    torch.testing.assert_close(table.table[:, PAIR], torch.tensor([INITIAL, 0.2, 0.4, INITIAL]))


def test_the_two_rules_agree_where_no_class_repeats():
    tables = [saliency(update=rule) for rule in ("mean", "sequential")]
    for table in tables:
        table.update(PAIR, torch.tensor([3, 0]), torch.tensor([0.5, 0.25]), ema=0.9)
    torch.testing.assert_close(tables[0].table, tables[1].table)


def test_update_takes_any_precision_and_leaves_its_arguments():
    for dtype in (torch.float64, torch.bfloat16):
        table, contribution = saliency(), torch.tensor([-0.5, 0.5], dtype=dtype)
        table.update(PAIR, torch.tensor([0, 1]), contribution, ema=0.0)
        assert contribution.tolist() == [-0.5, 0.5]
        assert table.table[:2, PAIR].tolist() == [0.0, 0.5]


def test_update_makes_no_graph():
    table = saliency()
    table.update(PAIR, torch.tensor([0]), torch.tensor([0.5], requires_grad=True), ema=0.5)
    assert not table.table.requires_grad


@pytest.mark.parametrize("update", ["mean", "sequential"])
def test_a_broken_sample_stays_in_its_class(update):
    table = saliency(update=update)
    table.update(PAIR, torch.tensor([0, 1]), torch.tensor([float("nan"), 0.5]), ema=0.9)
    assert table.table.isfinite().all(), "what is not finite is no evidence"
    assert (table.table[1, PAIR] > table.table[0, PAIR]).item()


def test_state_dict_round_trip():
    table, other = saliency(), saliency()
    table.update(PAIR, torch.tensor([0, 1]), torch.tensor([0.5, 0.25]), ema=0.9)
    state = table.state_dict()
    assert list(state) == ["table", "initial"]
    other.load_state_dict(state)
    assert torch.equal(other.table, table.table)


@pytest.mark.parametrize("options", [{"update": "median"}, {"reduction": "sum"}])
def test_unknown_rule(options):
    ((name, rule),) = options.items()
    with pytest.raises(ValueError, match=f"{name} is .* or .*, got '{rule}'"):
        saliency(**options)
