"""The plug-in as a whole: the loop of its docstring, phases and switches, the published options, several ranks."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from shapmix import LogitAdjustedLoss, ShapMix, SkeletonLayout
from shapmix.draws import generator

NTU = SkeletonLayout.get("ntu25")
FRAMES, COUNTS = 16, [40, 10, 3]
BASELINE = torch.zeros(2, FRAMES, 25, 1)
FOUR_PARTS = {
    "name": "four",
    "joint_names": ["hip", "left", "right", "neck", "head", "tail"],
    "bones": [[1, 0], [2, 0], [3, 0], [4, 3], [5, 0]],
    "parts": {"hip": [0, 5], "left": [1], "right": [2], "head": [4, 3]},
}


def make(**options):
    options = {"class_counts": COUNTS, "baseline": BASELINE} | options
    return ShapMix(options.pop("layout", "ntu25"), **options)


def batch(size=6, joints=25, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(size, 2, FRAMES, joints, 1, generator=rng), torch.arange(size) % 3


def network(joints=25):
    """A linear network (N, 2, FRAMES, joints, 1) -> (N, 3) with the same weights every time."""
    linear = nn.Linear(2 * FRAMES * joints, 3)
    rng = torch.Generator().manual_seed(5)
    linear.weight.data = 0.3 * torch.randn(linear.weight.shape, generator=rng)
    linear.bias.data.zero_()
    return nn.Sequential(nn.Flatten(), linear)


def forbidden(x):
    raise AssertionError("the network was called")


class Watch:
    """A network that notes which parts were present in each of the two evaluations of an observation.

    It must be shown x = 1 everywhere and a baseline of 0.
    """

    def __init__(self, layout=NTU):
        self.layout, self.seen = layout, []

    def __call__(self, x):
        joints = x.view(2, -1, *x.shape[1:])[:, 0, 0, 0, :, 0] == 1
        parts = [{p for p, own in enumerate(self.layout.parts.values()) if row[list(own)].all()} for row in joints]
        context, together = sorted(parts, key=len)
        self.seen.append((context, tuple(sorted(together - context))))
        rows = torch.arange(len(x)) / len(x)
        return torch.stack([rows, -rows, rows * 0], 1)


def watch(mixer, epoch, steps):
    seen = Watch(mixer.layout)
    for step in range(steps):
        mixer.start_step(epoch, step)
        mixer.observe(seen, torch.ones(2, 2, FRAMES, mixer.layout.num_joints, 1), torch.tensor([0, 1]))
    return seen.seen


def test_plugin_loop_of_the_docstring():
    torch.manual_seed(0)
    data, labels = batch(12)
    data += labels.view(-1, 1, 1, 1, 1)  # something to learn
    model = nn.Sequential(nn.Flatten(), nn.Linear(2 * FRAMES * 25, 3), nn.BatchNorm1d(3)).train()
    mixer, criterion = make(naive_mix_epoch=1, naive_estimate_epoch=1), LogitAdjustedLoss(COUNTS)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for epoch in range(2):
        for step, (x, y) in enumerate([(data[:6], labels[:6]), (data[6:], labels[6:])]):
            mixer.start_step(epoch, step)
            mixer.observe(model, x, y)
            x_mix, y_mix = mixer(x, y)
            logits, logits_mix = model(torch.cat([x, x_mix])).chunk(2)
            loss = criterion(logits, y) + criterion(logits_mix, y_mix)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert all(torch.tensor(losses).isfinite())
    assert min(losses[2:]) < losses[0]
    assert model.training
    assert model[2].num_batches_tracked == 4  # observing does not count
    moved = mixer.saliency.table != torch.tensor(1e-6)
    assert 3 <= moved.sum() <= 4 * 3  # one column a step at most, all three classes
    assert (moved.sum(0) % 3 == 0).all()


def test_state_resumes():
    x, y = batch()
    first, other = make(), make(baseline=torch.ones_like(BASELINE))
    first.start_step(3, 0)
    first.observe(network(), x, y)
    other.load_state_dict(first.state_dict())
    assert torch.equal(other.baseline, BASELINE)
    for mixer in (first, other):
        mixer.start_step(7, 1)
        mixer.observe(network(), x, y)
    assert torch.equal(first.saliency.table, other.saliency.table)
    for ours, theirs in zip(first(x, y), other(x, y), strict=True):
        assert torch.equal(ours, theirs)
    assert not list(first.parameters())


def test_baseline_is_a_copy():
    baseline = BASELINE.clone()
    mixer = make(baseline=baseline)
    baseline += 1
    assert torch.equal(mixer.baseline, BASELINE)


# Phases and switches


def test_disabled():
    x, y = batch()
    mixer = make(enabled=False)
    assert mixer.observe(forbidden, x, y) is None
    x_mix, y_mix = mixer(x, y)
    assert torch.equal(x_mix, x)
    assert x_mix.data_ptr() != x.data_ptr()
    assert torch.equal(y_mix, F.one_hot(y, 3).float())


def test_unguided_never_calls_the_network_and_stays_uniform():
    x, y = batch()
    mixer = make(guided=False, baseline=None, paste_probability=1.0)
    for epoch in (0, 50):
        mixer.start_step(epoch, 0)
        assert mixer.observe(forbidden, x, y) is None
        assert len({tuple(row) for row in pasted_joints(mixer, y)}) == 1
    assert (mixer.saliency.table == torch.tensor(1e-6)).all()


def test_no_baseline():
    x, y = batch()
    mixer = make(baseline=None)
    mixer(x, y)  # mixing needs none
    with pytest.raises(ValueError, match=r"needs a baseline \(C, T, V, M\).*guided=False"):
        mixer.observe(network(), x, y)


def test_estimate_interval():
    x, y = batch()
    mixer = make(estimate_interval=3)
    ran = []
    for step in range(7):
        mixer.start_step(0, step)
        ran.append(mixer.observe(network() if step % 3 == 0 else forbidden, x, y) is not None)
    assert ran == [True, False, False, True, False, False, True]


@pytest.mark.parametrize(("fraction", "places"), [(0.5, [0, 2, 4]), (0.4, [0, 2, 4]), (0.05, [0]), (0.99, range(6))])
@pytest.mark.parametrize("update", ["mean", "sequential"])
def test_estimate_fraction(fraction, places, update):
    """Only the chosen samples are evaluated, and the table is that of a batch of them alone."""
    x, y = batch()
    places, asked = list(places), []

    def counting(clip):
        asked.append(len(clip))
        return network()(clip)

    mixer, alone = make(estimate_fraction=fraction, update=update), make(update=update)
    for epoch in (0, 7):
        for each in (mixer, alone):
            each.start_step(epoch, 3)
        values = mixer.observe(counting, x, y)
        want = alone.observe(network(), x[places], y[places])
        assert asked.pop() == 2 * len(places)
        assert not asked, "one call"
        assert values.shape == (6,)
        assert values.isnan().nonzero().flatten().tolist() == [place for place in range(6) if place not in places]
        assert torch.equal(values[places], want)
        assert torch.equal(mixer.saliency.table, alone.saliency.table)
    assert (mixer.saliency.table > 1e-3).any()


@pytest.mark.parametrize("size", [1, 7, 64, 100])
def test_number_and_spacing_of_the_estimated_places(size):
    for percent in range(1, 101):
        places = make(estimate_fraction=percent / 100)._estimated_places(size)
        assert len(places) == -(-percent * size // 100)
        gaps = {after - before for before, after in zip(places, [*places[1:], size + places[0]], strict=True)}
        assert max(gaps) - min(gaps) <= 1


def test_whole_batch_is_estimated_by_default():
    x, y = batch()
    values = make().observe(network(), x, y)
    assert values.isfinite().all()
    assert torch.equal(values, make(estimate_fraction=1.0).observe(network(), x, y))


def test_contexts_are_empty_before_naive_estimate_epoch():
    mixer = make(naive_estimate_epoch=2)
    for epoch in (0, 1):
        assert {len(context) for context, _ in watch(mixer, epoch, 40)} == {0}
    assert {len(context) for context, _ in watch(mixer, 2, 60)} == {0, 1, 2, 3}


def test_every_coalition_is_observed():
    coalitions = [coalition for _, coalition in watch(make(), 6, 200)]
    assert set(coalitions) == set(NTU.coalitions())
    assert coalitions != [coalition for _, coalition in watch(make(seed=1), 6, 200)]


def test_observation_enters_its_own_column():
    mixer, x, y = make(scale=2.0), torch.ones(2, 2, FRAMES, 25, 1), torch.tensor([0, 1])
    for step in range(20):
        mixer.start_step(0, step)
        mixer.saliency.table.fill_(9.0)
        seen = Watch()
        values = mixer.observe(seen, x, y)
        ((_, coalition),) = seen.seen
        joints = sum(len(NTU.parts[NTU.part_names[part]]) for part in coalition)
        changed = (mixer.saliency.table != 9).nonzero().tolist()
        column = NTU.coalitions().index(coalition)
        assert changed == [[0, column], [1, column]]
        assert values[0] > 0 > values[1]
        assert mixer.saliency.table[0, column] == pytest.approx(values[0].item() / joints * 2.0)
        assert mixer.saliency.table[1, column] == 0


@pytest.mark.parametrize(("option", "first_decay"), [("guidance", 2), ("later", 3)])
def test_decay_start(option, first_decay):
    x, y = batch(3)
    mixer = make(naive_estimate_epoch=2, decay_start=option, ema=0.9, bias_correction=False)
    for epoch in range(5):
        mixer.start_step(epoch, 0)
        mixer.saliency.table.fill_(1000.0)
        mixer.observe(network(), x, y)
        (column,) = (mixer.saliency.table[0] != 1000).nonzero().flatten().tolist()
        kept = mixer.saliency.table[:, column] > 100  # 900 stay under decay, at most 10 / 8 without
        assert kept.all() if epoch >= first_decay else not kept.any()


def pasted_joints(mixer, y):
    """(N, V) bool: the joints on which the mixer wrote the partner's values, in a batch of paste."""
    x = torch.arange(1.0, len(y) + 1).view(-1, 1, 1, 1, 1).expand(-1, 2, FRAMES, mixer.layout.num_joints, 1)
    return (mixer(x, y)[0] != x)[:, 0, :, :, 0].any(1).tolist()


def joints_of(layout, parts):
    members = [joint for part in parts for joint in list(layout.parts.values())[part]]
    return [joint in members for joint in range(layout.num_joints)]


def test_uniform_before_naive_mix_epoch_and_guided_from_it_on():
    y, kept = torch.tensor([0, 0, 1, 1, 2, 2]), {0: (0, 1), 1: (1, 2, 4), 2: (3, 4)}
    mixer = make(naive_mix_epoch=3, paste_probability=1.0)
    for k, coalition in kept.items():
        mixer.saliency.table[k, NTU.coalitions().index(coalition)] = 1000.0
    uniform = set()
    for step in range(40):
        mixer.start_step(2, step)
        rows = {tuple(row) for row in pasted_joints(mixer, y)}
        assert len(rows) == 1
        uniform |= rows
    assert len(uniform) > 10
    assert uniform <= {tuple(joints_of(NTU, coalition)) for coalition in NTU.coalitions()}
    for step in range(5):
        mixer.start_step(3, step)
        assert pasted_joints(mixer, y) == expected_joints(mixer, y, kept, rarer=lambda a, b: COUNTS[a] < COUNTS[b])


def test_guidance():
    """A row with one entry far above the others, one of equals, and one in which half of the 20 are equally likely."""
    mixer = make(temperature=0.5)
    rows = torch.zeros(3, 20)
    rows[0, 7], rows[2, :10] = 100.0, 100.0
    mixer.saliency.table.copy_(rows)
    assert mixer.guidance().tolist() == pytest.approx([1, 0, 1 - math.log(10) / math.log(20)], abs=1e-12)
    assert mixer.metrics() == {"guidance": pytest.approx(mixer.guidance().mean().item())}
    softer = make(temperature=50.0)
    softer.saliency.table.copy_(rows)
    assert 0 < softer.guidance()[0] < 1
    assert make(guided=False).metrics() == {}


def expected_joints(mixer, y, kept, rarer):
    """What a guided batch must overwrite where the table leaves no choice; finds the shift from the mix itself."""
    x = torch.arange(float(len(y))).view(-1, 1, 1, 1, 1).expand(-1, 2, FRAMES, mixer.layout.num_joints, 1)
    mixer.start_step(mixer.epoch, mixer.step)
    shift = int(mixer(x, y)[0][0].max())
    mixer.start_step(mixer.epoch, mixer.step)
    rows = []
    for i, own in enumerate(y.tolist()):
        other = int(y[(i + shift) % len(y)])
        parts = set(kept[other]) if rarer(other, own) else set(range(5)) - set(kept[own])
        rows.append(joints_of(mixer.layout, parts))
    return rows


@pytest.mark.parametrize(
    ("option", "rarer"),
    [("count", lambda a, b: [3, 40, 10][a] < [3, 40, 10][b]), ("index", lambda a, b: a > b)],
)
def test_rarity(option, rarer):
    y, kept = torch.tensor([0, 1, 2, 0, 1, 2, 2]), {0: (0, 1), 1: (1, 2, 4), 2: (3, 4)}
    mixer = make(class_counts=[3, 40, 10], rarity=option, paste_probability=1.0)
    for k, coalition in kept.items():
        mixer.saliency.table[k, NTU.coalitions().index(coalition)] = 1000.0
    for step in range(6):
        mixer.start_step(9, step)
        assert pasted_joints(mixer, y) == expected_joints(mixer, y, kept, rarer)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_update(ema):
    """Repeated classes: their mean once, or (published) one after another."""
    x, _ = batch(4)
    y = torch.tensor([1, 1, 1, 2])
    ours, published = (make(ema=ema, bias_correction=False, update=rule) for rule in ("mean", "sequential"))
    for mixer in (ours, published):
        mixer.start_step(8, 0)
        mixer.saliency.table.fill_(1.0)
        values = mixer.observe(network(), x, y)
    (column,) = (ours.saliency.table[2] != 1).nonzero().flatten().tolist()
    joints = sum(joints_of(NTU, NTU.coalitions()[column]))
    w = (values.clamp(min=0) / joints * 10).tolist()
    mean, after = ema + (1 - ema) * (w[0] + w[1] + w[2]) / 3, 1.0
    for value in w[:3]:
        after = ema * after + (1 - ema) * value
    assert ours.saliency.table[1, column].item() == pytest.approx(mean, rel=1e-5)
    assert published.saliency.table[1, column].item() == pytest.approx(after, rel=1e-5)
    assert abs(mean - after) > 1e-3


def test_sizes_one_and_three_of_four_parts():
    mixer = make(layout=FOUR_PARTS, coalition_sizes=[1, 3], baseline=BASELINE[:, :, :6], paste_probability=1.0)
    layout, y = mixer.layout, torch.tensor([0, 1, 2])
    coalitions = layout.coalitions([1, 3])
    assert mixer.saliency.table.shape == (3, 8)
    assert {coalition for _, coalition in watch(mixer, 6, 100)} == set(coalitions)
    uniform = set()
    for step in range(60):
        mixer.start_step(0, step)
        uniform |= {tuple(row) for row in pasted_joints(mixer, y)}
    assert uniform == {tuple(joints_of(layout, coalition)) for coalition in coalitions}
    mixer.saliency.table[:, coalitions.index((3,))] = 1000.0
    mixer.start_step(5, 0)
    assert {tuple(row) for row in pasted_joints(mixer, y)} == {
        tuple(joints_of(layout, parts)) for parts in [(3,), (0, 1, 2)]
    }


def test_window_and_paste_probability_are_passed_on():
    mixer, y = make(window=(2, 2), paste_probability=1.0), torch.tensor([0, 1])
    x = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1, 1).expand(2, 2, FRAMES, 25, 1)
    for step in range(10):
        mixer.start_step(0, step)
        assert (mixer(x, y)[0][1] != x[1])[0, :, :, 0].any(1).sum() == 8
    mixer = make(paste_probability=0.0)
    for step in range(5):
        mixer.start_step(0, step)
        x_mix, y_mix = mixer(x, y)
        torch.testing.assert_close(x_mix[0].mean(), y_mix[0, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "ntu26"}, "no skeleton layout 'ntu26'"),
        ({"layout": FOUR_PARTS | {"bones": []}}, "'four': bones"),
        ({"class_counts": []}, "class_counts"),
        ({"class_counts": [[1, 2]]}, "class_counts"),
        ({"coalition_sizes": [5]}, r"coalition sizes must lie in 1\.\.4"),
        ({"coalition_sizes": [0, 2]}, r"coalition sizes must lie in 1\.\.4"),
        ({"coalition_sizes": []}, r"coalition sizes must lie in 1\.\.4"),
        ({"paste_probability": 1.1}, "paste_probability .* got 1.1"),
        ({"paste_probability": -0.1}, "paste_probability .* got -0.1"),
        ({"temperature": 0.0}, "temperature .* got 0.0"),
        ({"ema": 1.5}, "ema .* got 1.5"),
        ({"ema": -0.5}, "ema .* got -0.5"),
        ({"scale": 0}, "scale .* got 0"),
        ({"estimate_interval": 0}, "estimate_interval .* got 0"),
        ({"estimate_fraction": 0.0}, "estimate_fraction must lie above 0 and up to 1, got 0.0"),
        ({"estimate_fraction": 1.5}, "estimate_fraction .* got 1.5"),
        ({"estimate_fraction": float("nan")}, "estimate_fraction .* got nan"),
        ({"rarity": "size"}, "rarity is count or index, got 'size'"),
        ({"decay_start": "never"}, "decay_start is guidance or later, got 'never'"),
        ({"update": "median"}, "update is mean or sequential"),
        ({"reduction": "sum"}, "reduction is evidence or table"),
        ({"window": (11, 7)}, "window"),
        ({"window": (0, 3)}, "window"),
        ({"class_counts": [3, -1]}, "class_counts"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_window_that_does_not_fit_the_clip():
    with pytest.raises(ValueError, match=r"window \(3, 5\) does not fit 16 frames"):
        make(window=(3, 5))(*batch())


@pytest.mark.parametrize("x", [torch.zeros(3, 2, FRAMES, 17, 1), torch.zeros(3, 2, FRAMES, 25)])
def test_batch_of_another_shape(x):
    y = torch.zeros(3).long()
    with pytest.raises(ValueError, match=r"must be \(N, C, T, V, M\) with V = 25 joints of layout 'ntu25'"):
        make()(x, y)
    with pytest.raises(ValueError, match="V = 25 joints of layout 'ntu25'"):
        make().observe(forbidden, x, y)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16])
def test_labels_of_any_integer_dtype(dtype):
    x, y = batch()
    found = []
    for labels in (y, y.to(dtype)):
        mixer = make(naive_mix_epoch=0)
        mixer.observe(network(), x, labels)
        found.append((mixer.saliency.table, *mixer(x, labels)))
    assert all(torch.equal(*both) for both in zip(*found, strict=True))


def test_label_outside():
    x, y = batch()
    y[3] = 3
    for call in (make(), partial(make().observe, forbidden)):
        with pytest.raises(ValueError, match=r"y\[3\] is 3, outside the classes 0\.\.2"):
            call(x, y)


@pytest.mark.parametrize(
    ("options", "warnings"),
    [
        ({}, 1),
        ({"naive_mix_epoch": 0, "naive_estimate_epoch": 2}, 1),
        ({"naive_mix_epoch": 0, "naive_estimate_epoch": 0}, 0),
        ({"guided": False}, 0),
    ],
)
def test_start_step_forgotten(options, warnings, recwarn):
    x, y = batch(2)
    mixer = make(**options)
    for _ in range(250):
        mixer(x, y)
    assert len(recwarn) == warnings
    assert all("start_step was never called: it stays in epoch 0" in str(one.message) for one in recwarn)
    mixer = make(**options)
    for step in range(250):
        mixer.start_step(0, step)
        mixer(x, y)
    assert len(recwarn) == warnings


def test_clip_of_three_frames():
    with pytest.raises(ValueError, match="at least 4 frames, got 6 of 3"):
        make()(batch()[0][:, :, :3], batch()[1])


def test_batch_of_one_is_not_mixed():
    x, y = batch(1, seed=3)
    x_mix, y_mix = make()(x, y)
    assert torch.equal(x_mix, x)
    assert x_mix.data_ptr() != x.data_ptr()
    assert y_mix.tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("epoch", [0, 9])
def test_batch_of_two_exchanges(epoch):
    x, y = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1, 1).expand(2, 2, FRAMES, 25, 1), torch.tensor([0, 2])
    mixer = make()
    for step in range(12):
        mixer.start_step(epoch, step)
        assert mixer.observe(network(), x, y).shape == (2,)
        x_mix, y_mix = mixer(x, y)
        written = torch.stack([x_mix[0].mean(), 1 - x_mix[1].mean()])  # what came from the other one
        torch.testing.assert_close(torch.stack([y_mix[0, 2], y_mix[1, 0]]), written)
        assert (y_mix[:, 1] == 0).all()


def test_nothing_is_differentiated():
    x, y = batch()
    mixer, model = make(), network()
    values = mixer.observe(model, x.requires_grad_(), y)
    x_mix, y_mix = mixer(x, y)
    assert not any(tensor.requires_grad for tensor in (values, x_mix, y_mix))
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("epoch", [0, 9])
def test_float64(epoch):
    x, y = batch()
    mixer, double = make(), make()
    for step in range(8):
        for each in (mixer, double):
            each.start_step(epoch, step)
        single = mixer.observe(network(), x, y)
        values = double.observe(network().double(), x.double(), y)
        assert values.dtype == torch.float64
        torch.testing.assert_close(values.float(), single)
        torch.testing.assert_close(double.saliency.table, mixer.saliency.table)
        x_mix, y_mix = double(x.double(), y)
        assert x_mix.dtype == y_mix.dtype == torch.float64
        torch.testing.assert_close(x_mix.float(), mixer(x, y)[0])
        torch.testing.assert_close(y_mix.sum(1), torch.ones(6).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["paste", "blend"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_share_is_as_precise_as_the_target(dtype, kind):
    """The targets' dtype is float32 at least; the share that they hold must not have been rounded before."""
    mixer = make(paste_probability=float(kind == "paste"))
    mixer.start_step(0, 1)
    x = torch.tensor([0.0, 1.0]).to(dtype).view(2, 1, 1, 1, 1).expand(2, 2, FRAMES, 25, 1)
    y_mix = mixer(x, torch.tensor([0, 2]))[1]
    assert y_mix.dtype == torch.promote_types(dtype, torch.float32)
    mixer.start_step(0, 1)
    want = mixer(x.double(), torch.tensor([0, 2]))[0][0].mean()
    torch.testing.assert_close(y_mix[0, 2], want.to(y_mix.dtype), rtol=0, atol=2 * torch.finfo(y_mix.dtype).eps)


def test_dtype_of_the_targets_does_not_depend_on_mixing():
    x, y = batch()
    x = x.bfloat16()
    assert make(enabled=False)(x, y)[1].dtype == make()(x, y)[1].dtype


# Two ranks

CASES = [
    {"reduction": reduction, "update": update, "bias_correction": corrected}
    for reduction, corrected in (("evidence", True), ("table", False))
    for update in ("mean", "sequential")
]
CASES += [{"reduction": "evidence", "estimate_fraction": share} for share in (0.4, 0.1)]  # places 0, 2, 4; place 0
STEPS = [(0, 0), (0, 1), (5, 0), (5, 1), (6, 0)]


def global_batch(epoch, step):
    """Six samples; classes repeat within a rank and across ranks, and class 2 is seen by the second rank only."""
    rng = generator("two ranks", epoch, step)
    return torch.randn(6, 2, FRAMES, 25, 1, generator=rng), torch.tensor([0, 1, 0, 1, 2, 1])


def with_batch_norm():
    return nn.Sequential(nn.BatchNorm3d(2), network())


def observed_with_batch_norm(rank):
    """Each rank has trained with a batch of its own; then only rank 0 has a sample to estimate, and DDP is hidden."""
    net = with_batch_norm()
    model = torch.compile(DistributedDataParallel(net), backend="eager")
    x, y = (rows[3 * rank : 3 * rank + 3] for rows in global_batch(0, 0))
    model(x * (1 + rank)).sum().backward()
    mixer = make(estimate_fraction=0.1)
    mixer.observe(model, x, y)
    return {"table": mixer.saliency.table.clone(), "mean": net[0].running_mean.clone()}


def run_rank(rank, folder):
    """All cases on one of two ranks; saves the tables and mixes of every step."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model, results = DistributedDataParallel(network()), []
    for options in CASES:
        mixer = make(**options)
        for epoch, step in STEPS:
            x, y = (rows[3 * rank : 3 * rank + 3] for rows in global_batch(epoch, step))
            mixer.start_step(epoch, step)
            mixer.observe(model, x, y)
            x_mix, y_mix = mixer(x, y)
            results.append({"table": mixer.saliency.table.clone(), "x": x_mix, "y": y_mix})
    results.append(observed_with_batch_norm(rank))
    mixer = make(guided=False)
    x, y = (rows[rank : rank + 1] for rows in global_batch(0, 0))
    x_mix, y_mix = mixer(x, y)  # a batch of one on each rank is two in all
    results.append({"x": x_mix, "y": y_mix})
    torch.save(results, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("two_ranks"))
    torch.multiprocessing.spawn(run_rank, (folder,), nprocs=2)
    return [torch.load(f"{folder}/rank{rank}.pt", weights_only=True) for rank in range(2)]


def results_of(two_ranks, case):
    """(step, [rank 0's result, rank 1's]) of one case."""
    first = case * len(STEPS)
    return zip(STEPS, zip(*(rank[first : first + len(STEPS)] for rank in two_ranks), strict=True), strict=True)


@pytest.mark.parametrize("case", [0, 1, 4, 5], ids=["mean", "sequential", "some", "one rank's"])
def test_two_ranks_are_one_process_with_the_global_batch(two_ranks, case):
    assert CASES[case]["reduction"] == "evidence"
    mixer = make(**CASES[case])
    for (epoch, step), ranks in results_of(two_ranks, case):
        x, y = global_batch(epoch, step)
        mixer.start_step(epoch, step)
        mixer.observe(network(), x, y)
        for rank in ranks:
            torch.testing.assert_close(rank["table"], mixer.saliency.table)
        x_mix, y_mix = mixer(x, y)
        assert torch.equal(torch.cat([rank["x"] for rank in ranks]), x_mix)
        assert torch.equal(torch.cat([rank["y"] for rank in ranks]), y_mix)


@pytest.mark.parametrize("case", [2, 3], ids=["mean", "sequential"])
def test_published_reduction_averages_the_tables(two_ranks, case):
    assert CASES[case]["reduction"] == "table"
    own, whole = [make(**CASES[case]) for _ in range(2)], make(**CASES[case])
    for (epoch, step), ranks in results_of(two_ranks, case):
        x, y = global_batch(epoch, step)
        for mixer, rows in zip([*own, whole], [slice(0, 3), slice(3, 6), slice(0, 6)], strict=True):
            mixer.start_step(epoch, step)
            mixer.observe(network(), x[rows], y[rows])
        if epoch >= 5:  # from naive_mix_epoch on
            average = (own[0].saliency.table + own[1].saliency.table) / 2
            for mixer in own:
                mixer.saliency.table.copy_(average)
        for rank, mixer in zip(ranks, own, strict=True):
            torch.testing.assert_close(rank["table"], mixer.saliency.table)
        assert torch.equal(ranks[0]["table"], ranks[1]["table"]) == (epoch >= 5)
    assert not torch.allclose(average, whole.saliency.table)


def test_batch_of_one_on_each_rank_is_mixed(two_ranks):
    x, y = (rows[:2] for rows in global_batch(0, 0))
    x_mix, y_mix = make(guided=False)(x, y)
    assert not torch.equal(x_mix, x)
    assert torch.equal(torch.cat([rank[-1]["x"] for rank in two_ranks]), x_mix)
    assert torch.equal(torch.cat([rank[-1]["y"] for rank in two_ranks]), y_mix)


def test_ranks_observe_the_same_network(two_ranks):
    """With rank 0's running statistics, on every rank, though DDP is not the outermost module; and nobody waits."""
    (x, y), net = global_batch(0, 0), with_batch_norm()
    net(x[:3])
    mixer = make(estimate_fraction=0.1)
    mixer.observe(net, x, y)
    for rank in two_ranks:
        torch.testing.assert_close(rank[-2]["table"], mixer.saliency.table)
        torch.testing.assert_close(rank[-2]["mean"], net[0].running_mean)
