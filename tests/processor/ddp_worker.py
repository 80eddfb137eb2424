"""Five Shap-Mix steps in float64 on a small network, in one process or several; the words are OUT CACHE OPTIONS.

Rank 0 writes an .npz with what every step saw and did, joined over the ranks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from feeders.loader import StoreLoader
from feeders.synthetic import Feeder
from processor.data import mean_sequence
from processor.distributed import barrier, gather_rows, set_up, sum_over_ranks, tear_down
from processor.engine import Reading, Trainer, evaluate
from shapmix import LDAMLoss, LogitAdjustedLoss, Mixer, Remix, ShapMix, effective_number_weights
from shapmix.distributed import world
from shapmix.losses import LongTailedLoss

STEPS = 5


class Small(nn.Module):
    """Two layers without batch norm."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 25, 16), nn.Tanh(), nn.Linear(16, 12))

    def forward(self, x):
        return self.layers(x)


def main(words: Sequence[str]) -> int:
    out, cache, options = words
    given = json.loads(options)
    estimate = {name: given[name] for name in ("estimate_interval", "estimate_fraction") if name in given}
    device = set_up("cpu")
    torch.set_num_threads(1)
    rank, processes = world()
    feeder = Feeder("train", window_size=16, n_max=20, imbalance=5, cache_dir=cache)
    loader = StoreLoader(feeder, 12, 7, device, torch.float64, given.get("sampler"))
    test = StoreLoader(Feeder("test", window_size=16, num_test=3, cache_dir=cache), 12, 7, device, torch.float64)
    if given.get("resident"):
        feeder.make_resident(device)
    network = Small().double()
    if given.get("compile"):
        network.compile(backend="aot_eager", dynamic=False)
    baseline = mean_sequence(loader, 8)
    epochs = {"naive_mix_epoch": 0, "naive_estimate_epoch": 0}
    criterion: LongTailedLoss = LogitAdjustedLoss(loader.class_counts)
    mixer: Mixer = ShapMix("ntu25", loader.class_counts, baseline, seed=7, **epochs, **estimate)
    if given.get("others"):
        criterion, mixer = LDAMLoss(loader.class_counts), Remix(loader.class_counts, seed=7)
        criterion.reweight(effective_number_weights(loader.class_counts))
    trainer = Trainer(
        model=DistributedDataParallel(network) if processes > 1 else network,
        mixer=mixer.double(),
        criterion=criterion.double(),
        optimizer=torch.optim.SGD(network.parameters(), 0.05, 0.9, nesterov=True),
        learning_rate=lambda epoch, step: 0.05,
        reading=Reading((given.get("read_interval", 1),)),
    )
    kept: dict[str, list[np.ndarray]] = {}
    mix = mixer.apply_draws

    def note(name: str, rows: torch.Tensor) -> None:
        kept.setdefault(name, []).append(gather_rows(rows).numpy())

    def noted_mix(*args):
        x_mix, y_mix = mix(*args)
        note("x_mix", x_mix)
        note("y_mix", y_mix)
        return x_mix, y_mix

    mixer.apply_draws = noted_mix
    for step, batch in enumerate(loader.shuffled(0)):
        if step == STEPS:
            break
        note("rows", batch.rows)
        note("x", batch.x)
        losses = trainer.step(batch, 0, step)[:2]
        kept.setdefault("loss", []).append((sum_over_ranks(losses) / processes).numpy())
        if isinstance(mixer, ShapMix):
            kept.setdefault("table", []).append(mixer.saliency.table.numpy().copy())
    weights = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    scores = evaluate(network, test, 5)
    if rank == 0:
        np.savez(
            out,
            weights=weights.numpy(),
            baseline=baseline.numpy(),
            scores=scores.logits.numpy(),
            **{name: np.stack(values) for name, values in kept.items()},
        )
    barrier()
    tear_down(done=True)
    return 0
