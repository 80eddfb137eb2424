"""Mixed samples are what training mixes, for every mixer, stage and stream; masks say which joints are whose."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from feeders.loader import StoreLoader
from processor.build import build_mixer
from processor.config import Config
from processor.data import Data, load_data
from processor.methods import MIXERS
from processor.report.mixed import MixedSample, mixed_samples
from shapmix import Mixer
from tests.conftest import tiny_config

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mixed")


def built(folder, stream: str = "joint", **changes) -> tuple[Config, Data, Mixer]:
    values = tiny_config(folder, **changes)
    values["feeder_args"]["stream"] = stream
    config = Config.model_validate(values)
    data = load_data(config, CPU, ("train", "test"))
    mixer = build_mixer(config, data, CPU)
    if changes.get("mixing", "shap_mix") == "shap_mix":
        mixer.saliency.table.copy_(torch.rand(mixer.saliency.table.shape, generator=torch.Generator().manual_seed(0)))
    return config, data, mixer


def trained_on(data: Data, mixer: Mixer, sample: MixedSample) -> tuple[torch.Tensor, torch.Tensor]:
    """The mixed sample as a training step makes it (C, T, V, M), and its soft target (K,)."""
    loader = data.loaders["train"]
    batch = next(loader.shuffled(sample.epoch, sample.step))
    mixer.start_step(sample.epoch, sample.step)
    mixed, targets = mixer(batch.x, batch.y, *(() if batch.partner is None else (batch.partner.x, batch.partner.y)))
    place = [loader.ids[row] for row in batch.rows.tolist()].index(sample.ids[0])
    return batch.finished(mixed)[place], targets[place]


VARIANTS = [
    *({"mixing": mixing} for mixing in MIXERS),
    {"mix_stage": "frames", "mixing_args": {"same_facing": True}},
    {"mix_stage": "joints", "mixing_args": {"body": "bones"}},
    {"partner": "class_balanced"},
    {"partner": "tail_over_head"},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_as_trained(folder, changes):
    config, data, mixer = built(folder, **changes)
    mixer.start_step(7, 3)
    found = mixed_samples(config, data, mixer, epoch=4, number=5)
    assert (mixer.epoch, mixer.step) == (7, 3)
    assert [(sample.epoch, sample.step) for sample in found] == [(4, step) for step in range(5)]
    loader = data.loaders["train"]
    for sample in found:
        mixed, target = trained_on(data, mixer, sample)
        np.testing.assert_array_equal(sample.result, mixed.numpy())
        assert sample.target == {label: share for label, share in enumerate(target.tolist()) if share}
        assert sample.labels[0] != sample.labels[1]
        assert sample.labels == tuple(loader.labels[loader.ids.index(name)].item() for name in sample.ids)
        assert sum(sample.target.values()) == pytest.approx(1)
        if sample.mask is None:
            assert config.mixing != "temporal_cutmix"
            blended = (1 - sample.blend) * sample.own + sample.blend * sample.partner
            np.testing.assert_allclose(sample.result, blended, atol=1e-6)
        elif "body" not in config.mixing_args:
            np.testing.assert_array_equal(sample.result[:, ~sample.mask], sample.own[:, ~sample.mask])
            assert sample.blend == pytest.approx(sample.mask.mean())
            if config.mixing != "remix":
                assert sample.target.get(sample.labels[1], 0) == pytest.approx(sample.blend, abs=1e-6)
    masks = [sample.mask for sample in found if sample.mask is not None]
    assert bool(masks) == (config.mixing not in ("mixup", "remix"))
    if config.mixing == "temporal_cutmix":
        assert all((mask == mask[:, :1]).all() for mask in masks), "whole frames"


def test_pasted_joints_are_the_partners(folder):
    """In the joint stream without bones: each pasted frame is one of the partner's."""
    for sample in mixed_samples(*built(folder, mixing="st_mix", mixing_args={"paste_probability": 1}), 2, 4):
        for frame, joint in np.argwhere(sample.mask)[::7]:
            new = sample.result[:, frame, joint]
            assert (sample.partner[:, :, joint] == new[:, None]).all((0, 2)).any()


@pytest.mark.parametrize("stream", ["bone", "joint_motion"])
def test_another_stream_shows_the_same_draws(folder, stream):
    joints = mixed_samples(*built(folder), 3)
    others = mixed_samples(*built(folder, stream), 3)
    for one, other in zip(joints, others, strict=True):
        for key in (field.name for field in dataclasses.fields(MixedSample)):
            np.testing.assert_array_equal(getattr(one, key), getattr(other, key))


def test_poses(folder):
    """Flat poses with a score, several people of whom some are absent."""
    values = {"feeder": "feeders.synthetic_pose.Feeder", "mixing_args": {"people": "present"}}
    config, data, mixer = built(folder, **values)
    assert isinstance(data.loaders["train"], StoreLoader)
    for sample in mixed_samples(config, data, mixer, 4, 3):
        np.testing.assert_array_equal(sample.result, trained_on(data, mixer, sample)[0].numpy())


def test_a_run_that_does_not_mix(folder):
    config, data, mixer = built(folder, mixing="none")
    assert mixed_samples(config, data, mixer, 0) == []
    config, data, mixer = built(folder, mixing_args={"enabled": False})
    assert mixed_samples(config, data, mixer, 0) == []
    config, data, mixer = built(folder, batch_size=1)
    assert mixed_samples(config, data, mixer, 0) == []
