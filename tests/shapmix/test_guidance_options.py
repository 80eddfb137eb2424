"""What goes beyond the published method: corrected, refreshed and standardised rows, who is guided, whole bodies."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shapmix import LAYOUTS, Mixup, Remix, ShapMix, TemporalCutMix, exact_contributions
from shapmix.draws import generator
from shapmix.mixing import MixDraws, counts_differ, exchanged, source_segment

LAYOUT = LAYOUTS["ucla20"]
COUNTS = [40, 12, 3]


def mixer(**options) -> ShapMix:
    baseline = 0.1 * torch.randn(3, 16, 20, 2, generator=generator(0, "baseline"))
    return ShapMix(LAYOUT, COUNTS, baseline, naive_mix_epoch=0, naive_estimate_epoch=0, **options)


def batch(size: int = 8, seed: int = 1) -> tuple[Tensor, Tensor]:
    x = torch.randn(size, 3, 16, 20, 2, generator=generator(seed, "x"))
    return x, torch.randint(3, (size,), generator=generator(seed, "y"))


def network(x: Tensor) -> Tensor:
    weights = torch.randn(3 * 16 * 20 * 2, 3, generator=generator(0, "network"))
    return x.flatten(1) @ weights * 0.05


def test_the_initial_value_is_taken_out_of_a_moving_average():
    """Constant evidence gives that value from the first update on; entries without evidence, the mean of the others."""
    saliency = mixer().saliency
    for column, value, times in ((0, 0.3, 1), (1, 0.5, 7)):
        for _ in range(times):
            saliency.update(column, torch.tensor([1, 1]), torch.full((2,), value / saliency.gain[column]), 0.9)
    torch.testing.assert_close(saliency.rows()[1, :2], torch.tensor([0.3, 0.5]))
    torch.testing.assert_close(saliency.rows()[1, 2:], torch.full((18,), 0.4))
    assert torch.equal(saliency.rows()[[0, 2]], torch.full((2, 20), 1e-6)), "nothing is known of these classes"


def test_a_table_from_before_the_correction_is_read_as_it_is():
    saliency = mixer().saliency
    table = torch.rand(3, 20, generator=generator(0, "table"))
    saliency.load_state_dict({"table": table})
    assert torch.equal(saliency.rows(), table)


def test_refreshed_rows_are_mean_exact_contributions():
    made = mixer(estimator="refresh")
    (x, _), (x2, _) = batch(5, 1), batch(4, 2)
    y, y2 = torch.tensor([0, 1, 1, 0, 0]), torch.tensor([1, 1, 0, 1])  # class 2 has no sample
    made.refresh(network, [(x, y), (x2, y2)], max_batch=16)
    exact = exact_contributions(
        network, torch.cat([x, x2]), torch.cat([y, y2]), made.baseline, LAYOUT, made.saliency.coalitions
    )
    for label in (0, 1):
        wanted = exact[torch.cat([y, y2]) == label].clamp(min=0).mean(0) * torch.tensor(made.saliency.gain)
        torch.testing.assert_close(made.saliency.table[label], wanted)
    assert torch.equal(made.saliency.rows()[:2], made.saliency.table[:2])
    assert (made.saliency.table[2] == 1e-6).all()
    assert made.observe(network, x, y) is None
    table = made.saliency.table.clone()
    spoilt = torch.cat([x2, torch.full_like(x2[:1], torch.nan)])  # is left out
    made.refresh(network, [(x, y), (spoilt, torch.cat([y2, torch.tensor([1])]))], max_batch=16)
    torch.testing.assert_close(made.saliency.table, table)


def test_when_a_refresh_is_due():
    made = mixer(estimator="refresh", refresh_interval=4)
    made.naive_mix_epoch = 3
    assert [epoch for epoch in range(13) if made.refresh_due(epoch)] == [3, 7, 11]
    made.naive_mix_epoch = -1  # guided from the first epoch on, as with 0
    assert [epoch for epoch in range(9) if made.refresh_due(epoch)] == [0, 4, 8]
    assert not any(mixer().refresh_due(epoch) for epoch in range(9))
    assert not any(mixer(guided=False, estimator="refresh").refresh_due(epoch) for epoch in range(9))


def test_standardised_rows_guide_alike_whatever_their_level():
    made = mixer(standardise=True, temperature=1.0)
    row = torch.rand(20, generator=generator(0, "row"))
    made.saliency.load_state_dict({"table": torch.stack([row, 0.01 * row + 3, torch.full((20,), 0.7)])})
    first, second, flat = made.saliency.logits()
    torch.testing.assert_close(first, (row - row.mean()) / row.std(correction=0))
    torch.testing.assert_close(first, second, atol=1e-3, rtol=1e-3)
    assert not flat.any()
    noise = 4e-8 * torch.rand(3, 20, generator=generator(0, "noise"))  # of a network that sees no difference
    made.saliency.load_state_dict({"table": noise})
    assert not made.saliency.logits().any()


def test_only_pairs_whose_counts_differ_enough_are_guided():
    counts = torch.tensor(COUNTS)
    y, other = torch.tensor([0, 0, 1, 2, 1]), torch.tensor([1, 2, 2, 2, 0])
    assert counts_differ(counts, y, other, 4).tolist() == [False, True, True, False, False]
    certain = torch.zeros(3, 20)
    certain[:, 7] = 100
    x, y = batch(200)
    made = mixer(guide_from=4, paste_probability=1, body="joints")
    made.saliency.load_state_dict({"table": certain})
    marked = torch.arange(200).float().view(-1, 1, 1, 1, 1).expand_as(x).contiguous()
    made.start_step(0, 0)
    mixed, _ = made(marked, y)
    pasted = (mixed != marked).any(4).any(2).any(1)  # (N, V)
    partner = torch.where(pasted, mixed[:, 0].amax((1, 3)), 0).amax(1).long()
    column = {tuple(row): place for place, row in enumerate(made.coalition_joints.tolist())}
    shift = (partner[0] - 0) % 200
    y_partner = y.roll(-int(shift))
    rarer = counts[y_partner] < counts[y]
    remain = torch.where(rarer.unsqueeze(1), pasted, ~pasted)
    found = torch.tensor([column[tuple(row)] for row in remain.tolist()])
    guided = counts_differ(counts, y, y_partner, 4)
    assert (found[guided] == 7).all()
    assert len(found[~guided].unique()) > 10


def test_tail_over_head_pastes_the_rarer_sample():
    first, second = torch.arange(6).view(3, 2), 10 + torch.arange(6).view(3, 2)
    one, other = exchanged(first, second, torch.tensor([True, False, True]))
    assert one.tolist() == [[10, 11], [2, 3], [14, 15]]
    assert other.tolist() == [[0, 1], [12, 13], [4, 5]]
    made = mixer(tail_over_head=True, paste_probability=1)
    x = torch.zeros(2, 3, 16, 20, 2)
    x_partner = torch.ones_like(x)
    mixed, soft = made(x, torch.tensor([2, 0]), x_partner, torch.tensor([0, 2]))
    for sample, common in ((0, 1), (1, 0)):  # frames outside the segment are the sample of class 0
        assert (mixed[sample] == common).all(3).all(2).all(0).sum() >= 16 - 12
    torch.testing.assert_close(mixed[0].mean(), soft[0, 0])
    torch.testing.assert_close(mixed[1].mean(), soft[1, 2])


@pytest.mark.parametrize(
    "made",
    [
        ShapMix(LAYOUT, COUNTS, guided=False),
        ShapMix(LAYOUT, COUNTS, guided=False, tail_over_head=True, window=(1, 2), coalition_sizes=[1, 2]),
        Mixup(COUNTS, alpha=0.4),
        TemporalCutMix(COUNTS),
    ],
)
def test_how_often_a_class_is_the_target_of_a_mixed_sample(made):
    """With partners that are drawn alike from all classes; simulated."""
    expected = made.target_counts(frames=16) / sum(COUNTS)
    torch.testing.assert_close(expected.sum().item(), 1.0)
    rng, found, size = generator(0, "classes"), torch.zeros(3), 20
    x = torch.zeros(size, 3, 16, 20, 1)
    for step in range(4000):
        y = torch.multinomial(torch.tensor(COUNTS, dtype=torch.float), size, replacement=True, generator=rng)
        y_partner = torch.randint(3, (size,), generator=rng)
        made.start_step(0, step)
        found += made(x, y, x, y_partner)[1].mean(0) / 4000
    torch.testing.assert_close(found, expected.float(), atol=0.01, rtol=0)
    assert abs(expected[2].item() - COUNTS[2] / sum(COUNTS)) > 0.03, "and it is not the share of training samples"


def test_targets_that_depend_on_the_pair():
    assert Remix(COUNTS).target_counts(16) is None


def test_a_class_without_samples_is_no_target():
    assert ShapMix(LAYOUT, [5, 0, 3], guided=False).target_counts(16)[1] == 0


def test_partners_of_the_caller():
    made = mixer(paste_probability=0)
    (x, y), (x2, y2) = batch(seed=1), batch(seed=2)
    made.start_step(0, 1)
    mixed, soft = made(x, y, x2, y2)
    share = ((mixed - x) / (x2 - x)).mean().item()
    torch.testing.assert_close(mixed, (1 - share) * x + share * x2, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(soft.sum(1), torch.ones(8))
    with pytest.raises(ValueError, match="x_partner"):
        made(x, y, x2[:, :, :8], y2)


def draws(made: ShapMix, x: Tensor) -> MixDraws:
    made.start_step(0, 0)
    return replace(made.draw(len(x), x), kind="paste")


def test_absent_people_stay_absent():
    """Person 1 is absent in sample 0, and in the partner of sample 1; from frame 12 on nobody is there in sample 2."""
    made = mixer(people="present")
    (x, _), (partner, _) = batch(3, 1), batch(3, 2)
    x[0, ..., 1], partner[1, ..., 1], x[2, :, 12:] = 0, 0, 0
    joints = made.part_joints[[1, 1, 1]]
    drawn = replace(draws(made, x), target_start=4, target_len=12, source_start=0, source_len=12)
    mixed, share = made.paste(x, partner, joints, drawn)
    arm, segment = joints[0], slice(4, 16)
    assert not mixed[0, ..., 1].any()
    assert torch.equal(mixed[1, ..., 1], x[1, ..., 1])
    assert not mixed[2, :, 12:].any()
    source = source_segment(x, partner, drawn)
    assert torch.equal(mixed[0, :, segment, arm, 0], source[0, :, :, arm, 0])
    assert torch.equal(mixed[2, :, 4:12, arm], source[2, :, :8, arm])
    people = arm.sum() / 20
    torch.testing.assert_close(share, torch.stack([12 / 16 * people, 12 / 32 * people, 8 / 12 * people]))


def test_bones_are_pasted_within_the_segment_alone():
    made = mixer(body="bones")
    (x, _), (partner, _) = batch(3, 1), batch(3, 2)
    drawn = replace(draws(made, x), target_start=4, target_len=8, source_start=0, source_len=16)
    mixed, share = made.paste(x, partner, made.part_joints[[1, 2, 3]], drawn)
    outside = [*range(4), *range(12, 16)]
    assert torch.equal(mixed[:, :, outside], x[:, :, outside])
    nearer = torch.tensor(LAYOUT.parents())
    own, other = ((one - one[:, :, :, nearer]) for one in (mixed[:, :, 4:12], source_segment(x, partner, drawn)))
    arm = list(LAYOUT.parts.values())[1]
    cosine = torch.nn.functional.cosine_similarity(own, other, dim=1)[0]  # (t, V, M)
    torch.testing.assert_close(cosine[:, list(arm)], torch.ones(8, 4, 2))
    torch.testing.assert_close(share, torch.full((3,), 8 / 16 * 4 / 20))


@pytest.mark.parametrize("people", ["all", "present"])
def test_bones_need_the_person_on_both_sides(people):
    """Person 1 is absent in sample 0, and in the partner of sample 1: nothing of it is pasted, nor counted."""
    made = mixer(body="bones", people=people)
    (x, _), (partner, _) = batch(2, 1), batch(2, 2)
    x[0, ..., 1], partner[1, ..., 1] = 0, 0
    drawn = replace(draws(made, x), target_start=4, target_len=8, source_start=0, source_len=16)
    joints = made.part_joints[[1, 1]]
    mixed, share = made.paste(x, partner, joints, drawn)
    assert not mixed[0, ..., 1].any()
    torch.testing.assert_close(mixed[1, ..., 1], x[1, ..., 1])
    assert not torch.equal(mixed[0, ..., 0], x[0, ..., 0])
    torch.testing.assert_close(share, 8 / 16 * joints[0].sum() / 20 * torch.tensor([1, 0.5]))


@pytest.mark.parametrize(("options", "reason"), [
    ({"up": 3}, "up is 0 or 1 or 2"),
    ({"guide_from": 0.5}, "guide_from must be at least 1"),
    ({"refresh_interval": 0}, "refresh_interval must be at least 1"),
    ({"estimator": "exact"}, "estimator is sampled or refresh, got 'exact'"),
    ({"body": "limbs"}, "body is joints or bones"),
    ({"people": "some"}, "people is all or present"),
    ({"dims": 4}, "dims is 2 or 3"),
])  # fmt: skip
def test_bad_options(options, reason):
    with pytest.raises(ValueError, match=reason):
        mixer(**options)


def test_rows_of_rare_classes_reach_the_level_of_their_evidence():
    """Every contribution is 0.3, in batches as an epoch shows them: so are the rows, of the rarest class too."""
    counts = [120, 40, 12, 3, 2]
    labels = torch.arange(5).repeat_interleave(torch.tensor(counts))
    made = ShapMix(LAYOUT, counts, torch.zeros(3, 16, 20, 1), temperature=0.05, naive_estimate_epoch=3, seed=1)
    for epoch in range(24):
        order = torch.randperm(len(labels), generator=generator(1, epoch, "order"))
        for step, column in enumerate(torch.randint(20, (len(order) // 16,), generator=generator(1, epoch, "column"))):
            y = labels[order[16 * step : 16 * step + 16]]
            gain = made.saliency.gain[column]
            made.saliency.update(int(column), y, torch.full((16,), 0.3 / gain), 0.9 if epoch >= 3 else 0.0)
    torch.testing.assert_close(made.saliency.rows(), torch.full((5, 20), 0.3))
    assert made.guidance().max() < 1e-6, "equal contributions guide nothing"
    published = ShapMix(LAYOUT, counts, torch.zeros(3, 16, 20, 1), bias_correction=False).saliency
    published.update(0, torch.tensor([4]), torch.tensor([0.3 / published.gain[0]]), 0.9)
    assert published.table[4, 0] == pytest.approx(0.03, rel=1e-3)


def test_tables_of_ranks_are_averaged_by_their_evidence(monkeypatch):
    """``reduction: table``: this rank has seen 0.6 once; the other one has seen nothing, so it has no say."""
    here, others = mixer(reduction="table").saliency, [torch.zeros(3, 20), torch.ones(3, 20)]  # its sums, its shares
    monkeypatch.setattr("shapmix.saliency.average_over_ranks", lambda values: values.add_(others.pop(0)).div_(2))
    here.update(0, torch.tensor([1]), torch.tensor([0.6 / here.gain[0]]), 0.9)
    assert here.table[1, 0] == pytest.approx(0.6)
    assert here.initial[1, 0] == pytest.approx(0.95), "half of the evidence of one rank"
    assert (here.table[0] == 1e-6).all()
