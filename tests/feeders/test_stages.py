"""Views that stop before the turn or before the stream, and the batches that come with partners."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from feeders import synthetic, synthetic_pose
from feeders.loader import StoreLoader
from feeders.transforms import scale_to_unit
from shapmix.draws import generator

STREAMS = ["joint", "bone", "joint_motion", "bone_motion"]
ROWS = np.arange(5)


@pytest.mark.parametrize("stream", STREAMS)
def test_stages_end_in_the_same_view(stream, tmp_path):
    """What is left from each stage on gives what the feeder gives in one go."""
    feeder = synthetic.Feeder(stream=stream, n_max=8, imbalance=2, window_size=16, cache_dir=str(tmp_path))
    draws = feeder.draw(5, generator(0, "draws"))
    whole = feeder.batch(ROWS, draws=draws)
    for stage in ("joints", "frames", "input"):
        torch.testing.assert_close(feeder.finish(feeder.batch(ROWS, draws=draws, stage=stage), draws, stage), whole)
    turned, unturned = (feeder.batch(ROWS, draws=draws, stage=stage) for stage in ("joints", "frames"))
    torch.testing.assert_close(turned.norm(dim=1), unturned.norm(dim=1))
    assert not torch.allclose(turned, unturned)


@pytest.mark.parametrize("stream", ["joint", "bone"])
def test_stages_of_poses(stream, tmp_path):
    options = {"flip": 0.5, "random_scale": 0.2, "random_rot": 0.3, "cache_dir": str(tmp_path)}
    feeder = synthetic_pose.Feeder(stream=stream, window_size=16, **options)
    draws = feeder.draw(5, generator(0, "draws"))
    whole = feeder.batch(ROWS, draws=draws)
    for stage in ("joints", "frames"):
        torch.testing.assert_close(feeder.finish(feeder.batch(ROWS, draws=draws, stage=stage), draws, stage), whole)
    assert feeder.coordinates == 2


def test_nw_ucla_is_turned_and_scaled_last(ucla):
    from feeders.feeder_ucla import Feeder

    feeder = Feeder(ucla)
    draws = feeder.draw(5, generator(0, "draws"))
    x = feeder.batch(ROWS, draws=draws, stage="frames")
    assert x.abs().max() < 5, "metres"
    every = torch.ones(5, 52, dtype=torch.bool)
    torch.testing.assert_close(feeder.finish(x, draws, "frames"), scale_to_unit(feeder._rotated(x, draws), every))
    torch.testing.assert_close(
        feeder.finish(feeder.batch(ROWS, draws=draws, stage="joints"), draws, "joints"), feeder.batch(ROWS, draws=draws)
    )


def test_balanced_partners(tmp_path):
    """Others in each epoch, all classes as often, with their own augmentation; the batches themselves stay."""
    feeder = synthetic.Feeder(n_max=40, imbalance=20, window_size=16, repeat=4, cache_dir=str(tmp_path))
    options = {"batch_size": 16, "seed": 3, "device": torch.device("cpu")}
    plain, paired = StoreLoader(feeder, **options), StoreLoader(feeder, partner="class_balanced", **options)
    partners = torch.cat([plain.partners(epoch).flatten() for epoch in range(8)])
    share = torch.bincount(plain.labels[partners]) / len(partners)
    torch.testing.assert_close(share, torch.full_like(share, 1 / len(share)), atol=0.025, rtol=0)
    assert not torch.equal(plain.partners(0), plain.partners(1))
    one, two = (next(loader.shuffled(1, first_step=2)) for loader in (plain, paired))
    assert torch.equal(one.x, two.x)
    assert one.partner is None
    assert torch.equal(two.partner.rows, paired.partners(1)[2])
    assert torch.equal(two.partner.y, paired.labels[two.partner.rows])
    assert not torch.equal(two.partner.x, feeder.batch(two.partner.rows))


def test_rows_of_each_class(tmp_path):
    feeder = synthetic.Feeder(n_max=40, imbalance=20, window_size=16, cache_dir=str(tmp_path))
    loader = StoreLoader(feeder, 16, 3, torch.device("cpu"))
    rows = loader.of_each_class(5, epoch=2)
    assert len(rows.unique()) == len(rows)
    assert torch.bincount(loader.labels[rows]).tolist() == [min(5, count) for count in loader.class_counts]
    assert not torch.equal(rows, loader.of_each_class(5, epoch=7))
    shown = [batch.rows for batch in loader.in_order(8, rows)]
    assert torch.equal(torch.cat(shown), rows)


def test_all_rows_for_each_of_two_processes(tmp_path):
    feeder = synthetic.Feeder(n_max=8, imbalance=2, window_size=16, cache_dir=str(tmp_path))
    loader = StoreLoader(feeder, 8, 3, torch.device("cpu"))
    for loader.rank, loader.processes in ((0, 1), (0, 2), (1, 2)):
        shown = torch.cat([batch.rows for batch in loader.in_order(7, loader.all_for_each_process())])
        assert torch.equal(shown, torch.arange(len(feeder)))
