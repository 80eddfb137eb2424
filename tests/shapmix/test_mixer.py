"""mixup, CutMix in time and Remix against their definitions, sample by sample."""

from __future__ import annotations

import itertools

import pytest
import torch

from shapmix import Mixup, Remix, ShapMix, TemporalCutMix

COUNTS = [90, 30, 29, 10, 1]
KINDS = [Mixup, TemporalCutMix, Remix]


def batch(size=8, frames=20, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(size, 3, frames, 20, 1, generator=rng), torch.randint(len(COUNTS), (size,), generator=rng)


def mixed(mixer, step=0, **shape):
    """Batch, draws and result of one step."""
    x, y = batch(**shape)
    mixer.start_step(2, step)
    draws = mixer.draw(len(x), x)
    mixer.start_step(2, step)
    return x, y, draws, *mixer(x, y)


def onehot(label):
    return torch.eye(len(COUNTS))[label]


@pytest.mark.parametrize("step", range(4))
def test_mixup(step):
    x, y, draws, x_mix, y_mix = mixed(Mixup(COUNTS, alpha=0.6), step)
    assert 1 <= draws.shift < len(x)
    for i in range(len(x)):
        j = (i + draws.shift) % len(x)
        torch.testing.assert_close(x_mix[i], (1 - draws.lam) * x[i] + draws.lam * x[j])
        torch.testing.assert_close(y_mix[i], (1 - draws.lam) * onehot(y[i]) + draws.lam * onehot(y[j]))


@pytest.mark.parametrize("step", range(6))
def test_temporal_cutmix(step):
    x, y, draws, x_mix, y_mix = mixed(TemporalCutMix(COUNTS), step)
    length = round(draws.lam * 20)
    for i in range(len(x)):
        j = (i + draws.shift) % len(x)
        pasted = [t for t in range(20) if torch.equal(x_mix[i, :, t], x[j, :, t])]
        kept = [t for t in range(20) if torch.equal(x_mix[i, :, t], x[i, :, t])]
        assert len(pasted) == length
        assert pasted == list(range(pasted[0], pasted[0] + length)) if length else True
        assert sorted(pasted + kept) == list(range(20))
        torch.testing.assert_close(y_mix[i], (1 - length / 20) * onehot(y[i]) + length / 20 * onehot(y[j]))


def test_segments_lie_everywhere():
    mixer, (x, y) = TemporalCutMix(COUNTS), batch()
    covered = torch.zeros(20)
    for step in range(300):
        mixer.start_step(0, step)
        x_mix, _ = mixer(x, y)
        covered += (x_mix[0] != x[0]).any(0).flatten(1).any(1)
    assert covered.min() > 25  # the ends too
    assert covered.max() < 280
    assert covered[:10].sum().item() == pytest.approx(covered[10:].sum().item(), rel=0.1)


@pytest.mark.parametrize(("kappa", "threshold"), [(3.0, 0.5), (1.5, 0.9)])
def test_remix(kappa, threshold):
    mixer = Remix(COUNTS, kappa=kappa, threshold=threshold)
    seen = set()
    for step in range(12):
        x, y, draws, x_mix, y_mix = mixed(mixer, step, seed=step)
        for i in range(len(x)):
            j = (i + draws.shift) % len(x)
            torch.testing.assert_close(x_mix[i], (1 - draws.lam) * x[i] + draws.lam * x[j])
            own, other, kept = COUNTS[y[i]], COUNTS[y[j]], 1 - draws.lam  # the paper's n_i, n_j, lambda
            if own / other >= kappa and kept < threshold:
                share, case = 0.0, "partner alone"
            elif own / other <= 1 / kappa and 1 - kept < threshold:
                share, case = 1.0, "sample alone"
            else:
                share, case = kept, "both"
            seen.add(case)
            torch.testing.assert_close(y_mix[i], share * onehot(y[i]) + (1 - share) * onehot(y[j]))
    assert seen == {"partner alone", "sample alone", "both"}


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_stay_untouched_and_draws_follow_the_key(kind):
    x, y = batch()
    before = x.clone(), y.clone()
    mixer = kind(COUNTS, seed=3)
    results = []
    for epoch, step, seed in [(0, 1, 3), (0, 1, 3), (1, 0, 3), (0, 2, 3), (0, 1, 4)]:
        mixer.seed = seed
        mixer.start_step(epoch, step)
        results.append(mixer(x, y))
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])
    assert torch.equal(results[0][0], results[1][0])
    assert all(not torch.equal(results[0][0], other) for other, _ in results[2:])


@pytest.mark.parametrize("kind", KINDS)
def test_one_sample_and_disabled(kind):
    for mixer, size in ((kind(COUNTS), 1), (kind(COUNTS, enabled=False), 8)):
        x, y = batch(size)
        x_mix, y_mix = mixer(x, y)
        assert torch.equal(x_mix, x)
        assert x_mix is not x
        assert torch.equal(y_mix, torch.eye(len(COUNTS))[y])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_share_is_beta(alpha):
    mixer, (x, _) = Mixup(COUNTS, alpha), batch()
    lams = []
    for step in range(2000):
        mixer.start_step(0, step)
        lams.append(mixer.draw(8, x).lam)
    lam = torch.tensor(lams)
    assert lam.mean().item() == pytest.approx(0.5, abs=0.03)
    assert lam.var().item() == pytest.approx(0.25 / (2 * alpha + 1), rel=0.1)  # that of Beta(alpha, alpha)


def test_clean_batch():
    assert ShapMix("ucla20", COUNTS, guided=False).with_clean
    assert not any(kind(COUNTS).with_clean for kind in KINDS)
    assert all(kind(COUNTS, with_clean=True).with_clean for kind in KINDS)


@pytest.mark.parametrize(
    ("kind", "args"), [(Mixup, {"alpha": 0}), (Remix, {"kappa": 0.5}), (Remix, {"threshold": 1.5})]
)
def test_bad_arguments(kind, args):
    with pytest.raises(ValueError, match=next(iter(args))):
        kind(COUNTS, **args)
    with pytest.raises(ValueError, match="class_counts"):
        kind([[1, 2]])


@pytest.mark.parametrize("kind", [*KINDS, lambda counts, **seed: ShapMix("ucla20", counts, guided=False, **seed)])
def test_without_start_step_every_batch_has_its_own_draws(kind):
    mixer, (x, y) = kind(COUNTS, seed=1), batch()
    results = [mixer(x, y)[0] for _ in range(3)]
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(results, 2))
    mixer.start_step(0, 0)
    assert torch.equal(mixer(x, y)[0], results[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int8, torch.uint8])
def test_labels_of_any_integer_dtype(kind, dtype):
    x, y = batch()
    ours, theirs = (kind(COUNTS)(x, labels) for labels in (y.to(dtype), y))
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y.index_fill(0, torch.tensor([2, 6]), 5), r"y\[2\] is 5, outside the classes 0\.\.4; 2 of 8 are"),
        (lambda y: y.index_fill(0, torch.tensor(7), -1), r"y\[7\] is -1"),
        (lambda y: torch.eye(5)[y], r"\(N,\) of an integer dtype, got torch.float32 \(8, 5\); .* argmax"),
        (lambda y: y.float(), "integer dtype"),
        (lambda y: y > 2, "integer dtype"),
        (lambda y: y[:5], "different numbers of samples"),
    ],
)
@pytest.mark.parametrize("enabled", [True, False])
def test_labels_that_are_no_classes(change, message, enabled):
    x, y = batch()
    y = change(y)
    mixer = Mixup(COUNTS, enabled=enabled)
    mixer.start_step(3, 9)
    with pytest.raises(ValueError, match=message):
        mixer(x, y)
