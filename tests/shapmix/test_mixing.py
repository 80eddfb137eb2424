"""Mixing against a loop over samples, written here from docs/method.md, "Mixing"; the distributions of the draws."""

from __future__ import annotations

from collections import Counter
from math import exp

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from shapmix import ShapMix
from shapmix.draws import generator
from shapmix.mixing import (
    MixDraws,
    blend,
    default_window,
    draw_coalition,
    draw_mix,
    partner_is_rarer,
    paste,
    pasted_parts,
    soft_target,
)
from shapmix.skeleton import LAYOUTS, SkeletonLayout

quick = settings(max_examples=40, deadline=None, derandomize=True)
NTU = SkeletonLayout.get("ntu25")


@st.composite
def made_up_layouts(draw):
    """P in 2..6 parts of one to three joints, shuffled."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=2, max_size=6))
    joints = draw(st.permutations(range(sum(sizes))))
    parts = {f"part{part}": tuple(joints[sum(sizes[:part]) :][:size]) for part, size in enumerate(sizes)}
    return SkeletonLayout(
        name="made up",
        joint_names=tuple(f"joint{joint}" for joint in range(len(joints))),
        bones=tuple((joint, joint - 1) for joint in range(1, len(joints))),
        parts=parts,
    )


@st.composite
def problems(draw, smallest=1):
    """(mixer in a random epoch with a random table, x (N, 2, T, V, M), y (N,)); some classes have no samples."""
    layout = draw(st.one_of(st.sampled_from(list(LAYOUTS.values())), made_up_layouts()))
    counts = draw(st.lists(st.integers(0, 4), min_size=2, max_size=7))  # ties are frequent
    size, frames, people = draw(st.integers(smallest, 9)), draw(st.integers(16, 100)), draw(st.integers(1, 2))
    mixer = ShapMix(
        layout, counts, paste_probability=draw(st.sampled_from([0.0, 0.75, 1.0, 1.0])), seed=draw(st.integers(0, 99))
    )
    mixer.start_step(epoch=draw(st.sampled_from([0, 4, 5, 6])), step=draw(st.integers(0, 9)))
    rng = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    mixer.saliency.table.copy_(torch.rand(mixer.saliency.table.shape, generator=rng))
    x = torch.randn(size, 2, frames, layout.num_joints, people, generator=rng)
    return mixer, x, torch.randint(len(counts), (size,), generator=rng)


def draws_of(mixer, x):
    rng = generator(mixer.seed, mixer.epoch, mixer.step, "mix")
    sizes = sorted({mixer.layout.num_parts // 2, (mixer.layout.num_parts + 1) // 2})
    return draw_mix(len(x), x.shape[2], mixer.layout.num_parts, sizes, rng, mixer.paste_probability)


def reference(mixer, x, y, draws):
    """The rule for one sample after another: the pasted parts by an explicit sum of odds, joint by joint."""
    layout, counts, table = mixer.layout, mixer.abundance.tolist(), mixer.saliency.table.tolist()
    num_class, frames, num_joints = len(counts), x.shape[2], x.shape[3]
    mixed, targets = [], []
    for i in range(len(x)):
        j = (i + draws.shift) % len(x)
        own, other = int(y[i]), int(y[j])
        clip = x[i].clone()
        if draws.kind == "blend":
            clip, share = (1 - draws.lam) * clip + draws.lam * x[j], draws.lam
        else:
            if mixer.epoch < 5:
                parts = set(draws.coalition.nonzero().flatten().tolist())
            else:
                partner_is_rarer = counts[other] < counts[own]
                odds = [exp(value / 0.2) for value in table[other if partner_is_rarer else own]]
                left = float(draws.uniform[i]) * sum(odds)
                column = 0
                while left >= odds[column]:
                    left -= odds[column]
                    column += 1
                coalition = layout.coalitions()[column]
                parts = set(coalition) if partner_is_rarer else set(range(layout.num_parts)) - set(coalition)
            segment = x[j][:, draws.source_start : draws.source_start + draws.source_len].transpose(1, 3)
            resized = F.interpolate(segment, size=(segment.shape[2], draws.target_len), mode="nearest").transpose(1, 3)
            joints = [joint for part in parts for joint in layout.parts[layout.part_names[part]]]
            for joint in joints:
                clip[:, draws.target_start : draws.target_start + draws.target_len, joint] = resized[:, :, joint]
            share = draws.target_len * len(joints) / (frames * num_joints)
        target = [0.0] * num_class
        target[own] += 1 - share
        target[other] += share
        mixed.append(clip)
        targets.append(target)
    return torch.stack(mixed), torch.tensor(targets)


@quick
@given(problems())
def test_mixer_is_the_reference_loop(problem):
    mixer, x, y = problem
    x_before, y_before = x.clone(), y.clone()
    x_mix, y_mix = mixer(x, y)
    assert torch.equal(x, x_before)
    assert torch.equal(y, y_before)
    assert x_mix.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
    torch.testing.assert_close(y_mix.sum(1), torch.ones(len(x)), rtol=0, atol=1e-6)
    if len(x) == 1:
        want, target = x, F.one_hot(y, mixer.num_class).float()
    else:
        want, target = reference(mixer, x, y, draws_of(mixer, x))
    assert torch.equal(x_mix, want)
    torch.testing.assert_close(y_mix, target)


@quick
@given(problems(smallest=2), st.permutations(range(5)))
def test_any_memory_order_gives_the_same_and_is_kept(problem, order):
    mixer, x, y = problem
    back = [order.index(axis) for axis in range(5)]
    permuted = x.permute(order).contiguous().permute(back)
    x_mix, y_mix = mixer(x, y)
    mixer.start_step(mixer.epoch, mixer.step)
    other_mix, other_y = mixer(permuted, y)
    assert torch.equal(other_mix, x_mix)
    assert torch.equal(other_y, y_mix)
    assert other_mix.permute(order).is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.uint8])
def test_paste_copies_bit_for_bit(dtype):
    """Also zeros with a sign, infinite numbers and NaN: what is pasted is the partner's, what is not stays."""
    rng, bits = generator("bits"), {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    x, partner = (torch.randint(256, (3, 2, 16, 5, 2 * dtype.itemsize), generator=rng).byte() for _ in range(2))
    if dtype.is_floating_point:
        odd = torch.tensor([0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1.0]).to(dtype)
        x = odd[torch.randint(6, (3, 2, 16, 5, 2), generator=rng)].view(torch.uint8)
        partner = odd[torch.randint(6, (3, 2, 16, 5, 2), generator=rng)].view(torch.uint8)
    joints = torch.rand(3, 5, generator=rng) < 0.5
    draws = MixDraws(0, "paste", 0.0, 4, 8, 8, 8, torch.ones(1), torch.ones(1))
    mixed, _ = paste(x.view(dtype), partner.view(dtype), joints, draws)
    want = x.view(bits).clone()
    for i in range(3):
        for joint in joints[i].nonzero().flatten():
            want[i, :, 4:12, joint] = partner.view(bits)[i, :, 8:16, joint]
    assert torch.equal(mixed.view(bits), want)


def test_blend_to_the_bit():
    x, partner = torch.randn(2, 5, 2, 16, 4, 1, generator=generator("blend"))
    assert torch.equal(blend(x, partner, 0.3), (1 - 0.3) * x + 0.3 * partner)


@quick
@given(problems(smallest=2), st.data())
def test_relabelling_the_classes_relabels_the_targets_only(problem, data):
    mixer, x, y = problem
    new_label = torch.tensor(data.draw(st.permutations(range(mixer.num_class))))
    counts = torch.empty_like(mixer.abundance)
    counts[new_label] = mixer.abundance
    other = ShapMix(mixer.layout, counts, paste_probability=mixer.paste_probability, seed=mixer.seed)
    other.saliency.table[new_label] = mixer.saliency.table
    other.start_step(mixer.epoch, mixer.step)
    x_mix, y_mix = mixer(x, y)
    x_other, y_other = other(x, new_label[y])
    assert torch.equal(x_other, x_mix)
    assert torch.equal(y_other[:, new_label], y_mix)


@quick
@given(problems(smallest=2))
def test_partner_share_is_what_was_overwritten(problem):
    mixer, x, y = problem
    mixer.paste_probability = 1.0
    y = torch.arange(len(x)) % mixer.num_class
    for i in range(len(x)):
        x[i] = i
    x_mix, y_mix = mixer(x, y)
    changed = (x_mix != x).float().mean(dim=(1, 2, 3, 4))
    y_partner = y.roll(-draws_of(mixer, x).shift)
    assert ((changed > 0) & (changed < 1)).all()
    torch.testing.assert_close(y_mix, soft_target(y, y_partner, changed, mixer.num_class))


@pytest.mark.parametrize("dst", range(4, 101, 4))
def test_time_index_is_interpolates(dst):
    x, frame = torch.full((1, 1, 100, 1, 1), -1.0), torch.arange(100.0).view(1, 1, 100, 1, 1)
    for src in range(4, 101, 4):
        draws = MixDraws(0, "paste", 0.0, 100 - dst, dst, 100 - src, src, torch.ones(1), torch.ones(1))
        mixed, _ = paste(x, frame, torch.ones(1, 1, dtype=torch.bool), draws)
        want = F.interpolate(frame[..., 0, 0][..., 100 - src :], size=dst, mode="nearest")
        assert torch.equal(mixed[..., 0, 0][..., 100 - dst :], want)
        assert (mixed[:, :, : 100 - dst] == -1).all()


def test_pasted_parts_by_hand():
    drawn = torch.tensor([[True, True, False], [True, False, False], [False, True, False], [False, True, True]])
    y, y_partner = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 0, 1, 0])
    pasted = pasted_parts(drawn, partner_is_rarer(y, y_partner, torch.tensor([50, 3, 3])))
    assert pasted.tolist() == [
        [True, True, False],  # the partner is rarer: what was drawn
        [False, True, True],  # the sample is rarer: the rest
        [True, False, True],  # as rare as each other: the rest
        [True, False, False],  # the same class: the rest
    ]


def test_blend_and_soft_target_by_hand():
    mixed = blend(torch.tensor([1.0, 2.0]), torch.tensor([5.0, -2.0]), 0.25)
    assert mixed.tolist() == [2.0, 1.0]
    target = soft_target(torch.tensor([0, 2]), torch.tensor([1, 2]), torch.tensor([0.25, 0.5]), 3)
    assert target.tolist() == [[0.75, 0.25, 0.0], [0.0, 0.0, 1.0]]


@pytest.mark.parametrize(
    ("frames", "window"),
    [
        (64, (7, 11)),
        (100, (11, 17)),
        (103, (11, 17)),  # 25 units
        (96, (11, 17)),  # 10.5 and 16.5 round up
        (32, (4, 6)),  # 3.5 and 5.5 round up
        (52, (6, 9)),
        (20, (2, 3)),
        (16, (2, 3)),
        (4, (1, 1)),
    ],
)
def test_default_window(frames, window):
    assert default_window(frames) == window


@pytest.fixture(scope="module")
def many():
    rng = generator("many draws")
    return [draw_mix(9, 64, 5, [2, 3], rng) for _ in range(4000)]


def assert_uniform(values, expected):
    """All expected values occur, no others, and each about as often (5 standard deviations)."""
    counts, probability = Counter(values), 1 / len(expected)
    assert set(counts) == set(expected)
    mean = counts.total() * probability
    spread = (mean * (1 - probability)) ** 0.5
    assert all(abs(count - mean) <= 5 * spread for count in counts.values())


def test_shift_length_and_coalition_are_uniform(many):
    assert_uniform([draws.shift for draws in many], range(1, 9))
    assert_uniform([draws.target_len for draws in many], range(28, 45, 4))
    coalitions = [tuple(draws.coalition.nonzero().flatten().tolist()) for draws in many]
    assert_uniform(coalitions, NTU.coalitions())


def test_starts_and_source_length_are_uniform_among_those_that_fit(many):
    for target in range(28, 45, 4):
        same = [draws for draws in many if draws.target_len == target]
        assert_uniform([draws.target_start for draws in same], range(0, 64 - target + 1, 4))
        assert_uniform([draws.source_len for draws in same], range(target, 65, 4))
    for source in range(44, 65, 4):
        same = [draws for draws in many if draws.source_len == source]
        assert_uniform([draws.source_start for draws in same], range(0, 64 - source + 1, 4))


def test_kind_lam_and_uniform_numbers(many):
    pasted = sum(draws.kind == "paste" for draws in many)
    assert abs(pasted - 3000) < 5 * (4000 * 0.75 * 0.25) ** 0.5
    assert {draws.kind for draws in many} == {"paste", "blend"}
    assert_uniform([int(10 * draws.lam) for draws in many], range(10))
    blended = [draws.lam for draws in many if draws.kind == "blend"]  # lam does not depend on the kind
    assert_uniform([int(4 * lam) for lam in blended], range(4))
    uniform = torch.stack([draws.uniform for draws in many])
    assert uniform.shape == (4000, 9)
    assert_uniform((10 * uniform).long().flatten().tolist(), range(10))


@given(st.integers(2, 9), st.integers(4, 130), st.integers(2, 6), st.integers(0, 9999), st.data())
@settings(quick, max_examples=100)
def test_every_segment_fits(size, frames, parts, seed, data):
    units = frames // 4
    window = data.draw(st.none() | st.tuples(st.integers(1, units), st.integers(1, units)).map(sorted).map(tuple))
    draws = draw_mix(size, frames, parts, [1, parts - 1], generator(seed), window=window)
    shortest, longest = window or default_window(frames)
    assert 1 <= draws.shift < size
    assert 0 <= draws.lam < 1
    assert 4 * shortest <= draws.target_len <= 4 * longest
    assert draws.target_len <= draws.source_len <= 4 * units
    assert 0 <= draws.target_start <= 4 * units - draws.target_len
    assert 0 <= draws.source_start <= 4 * units - draws.source_len
    for number in (draws.target_start, draws.target_len, draws.source_start, draws.source_len):
        assert number % 4 == 0
    assert draws.coalition.shape == (parts,)
    assert int(draws.coalition.sum()) in (1, parts - 1)
    assert draws.uniform.shape == (size,)
    assert ((draws.uniform >= 0) & (draws.uniform < 1)).all()


def test_one_decision_does_not_shift_the_next():
    for seed in range(20):
        pasted, blended = (vars(draw_mix(8, 64, 5, [2, 3], generator(seed), pasting)) for pasting in (1.0, 0.0))
        assert (pasted.pop("kind"), blended.pop("kind")) == ("paste", "blend")
        for name, value in pasted.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(blended[name])), name


@pytest.mark.parametrize(
    ("size", "frames", "window", "message"),
    [
        (1, 64, None, "at least 2 samples of at least 4 frames, got 1 of 64"),
        (2, 3, None, "at least 2 samples of at least 4 frames, got 2 of 3"),
        (2, 64, (0, 11), "window .* does not fit 64 frames"),
        (2, 64, (11, 7), "window .* does not fit 64 frames"),
        (2, 64, (7, 17), "window .* does not fit 64 frames"),
    ],
)
def test_draws_that_cannot_be_made(size, frames, window, message):
    with pytest.raises(ValueError, match=message):
        draw_mix(size, frames, 5, [2, 3], generator(0), window=window)


def test_coalitions_follow_the_softmax():
    rng, size = generator("coalitions"), 20000
    table = 0.8 * torch.rand(3, 20, generator=rng)
    rarer = torch.tensor([0, 2]).repeat(size)
    columns = draw_coalition(table[rarer] / 0.2, torch.rand(2 * size, generator=rng))
    assert columns.dtype == torch.int64
    for k in (0, 2):
        counts = torch.bincount(columns[rarer == k], minlength=20)
        probability = (table[k].double() / 0.2).softmax(0)
        spread = (size * probability * (1 - probability)).sqrt()
        assert ((counts - size * probability).abs() < 5 * spread).all()
        assert ((counts - size / 20).abs() > 5 * spread).any()  # which a uniform choice would not pass


def test_temperature_sharpens():
    table = torch.tensor([[0.0, 0.1]])
    uniform = torch.linspace(0, 1, 1001)[:-1]
    share = [draw_coalition((table[0] / t).expand(1000, -1), uniform).float().mean() for t in (1.0, 0.1, 0.01)]
    want = [1 / (1 + exp(-0.1 / t)) for t in (1.0, 0.1, 0.01)]
    torch.testing.assert_close(torch.stack(share), torch.tensor(want), rtol=0, atol=2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_edges_of_the_uniform_number(dtype):
    table = torch.rand(50, 20, generator=generator("edges"), dtype=dtype)
    rows, below_one = torch.arange(50), 1 - 2.0**-24
    assert (draw_coalition(table[rows] / 0.2, torch.zeros(50)) == 0).all()
    assert (draw_coalition(table[rows] / 0.2, torch.full((50,), below_one)) == 19).all()
    assert (draw_coalition(table[rows] / 0.2, torch.ones(50)) == 19).all()
    certain = torch.zeros(1, 20, dtype=dtype).index_fill(1, torch.tensor([7]), 1000.0)
    for u in (0.0, 0.5, below_one):
        assert draw_coalition(certain / 0.2, torch.tensor([u])) == 7


def mix_at(seed, epoch, step, network=None):
    """The uniform mix of one fixed batch, with or without a look at a network before."""
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(8, 2, 64, 25, 1, generator=rng), torch.arange(8) % 3
    mixer = ShapMix("ntu25", [5, 3, 1], torch.zeros(2, 64, 25, 1), seed=seed, naive_mix_epoch=99)
    mixer.start_step(epoch, step)
    if network is not None:
        assert mixer.observe(network, x, y) is not None
    return mixer(x, y)


def test_draws_depend_on_seed_epoch_and_step_alone():
    first = mix_at(1, 2, 3)
    torch.manual_seed(12345)
    for ours, again in zip(first, mix_at(1, 2, 3), strict=True):
        assert torch.equal(ours, again)
    for key in [(2, 2, 3), (1, 3, 3), (1, 2, 4), (1, 3, 2), (12, 2, 3), (1, 23, 0)]:
        assert not torch.equal(first[0], mix_at(*key)[0]), key


def test_observing_does_not_change_the_mix():
    weight = torch.randn(2 * 64 * 25, 3, generator=torch.Generator().manual_seed(4))
    for step in range(4):
        observed = mix_at(1, 7, step, lambda x: x.flatten(1) @ weight)
        for ours, without in zip(observed, mix_at(1, 7, step), strict=True):
            assert torch.equal(ours, without)
