"""Uniform frame sampling: PYSKL's own indices, and the distribution of our draws."""

from __future__ import annotations

import numpy as np
import pytest

from feeders.uniform_sampling import published_clips, training_clips
from feeders.uniform_sampling import test_clips as clips_at_test_time

LENGTH = 100


def test_published_indices(golden):
    file = golden("uniform_sample_pyskl")
    seen = 0
    for name, wanted in file.items():
        kind, *rest = name.split("_")
        if rest[0] == "seed":
            continue
        frames, clips = int(rest[0][1:]), int(rest[1][5:])
        if kind == "test":
            ours = clips_at_test_time(frames, LENGTH, clips)
        else:
            rng = np.random.RandomState(int(file[f"train_seed_n{frames}_clips{clips}"]))
            ours = published_clips(frames, LENGTH, clips, rng, test=False)
        np.testing.assert_array_equal(ours.reshape(-1), wanted)
        seen += 1
    assert seen == 40


@pytest.mark.parametrize("frames", [1, 3, 99, 100, 130, 199, 200, 257])
def test_training_draws_have_the_published_distribution(frames):
    """The mean frame at each place of many clips; checks every clip."""
    number = 4000
    rng = np.random.RandomState(0)
    published = np.concatenate([published_clips(frames, LENGTH, 1, rng, test=False) for _ in range(number)])
    ours = training_clips(np.full(number, frames), LENGTH, np.random.default_rng(0).random((number, LENGTH + 1)))
    assert ours.shape == (number, LENGTH)
    assert ours.min() >= 0
    assert ours.max() < frames
    if frames >= LENGTH:
        assert (np.diff(ours) >= 1).all()
    else:
        assert (np.diff(ours) % frames == 1 % frames).all()
    bound = 6 * (published.std(axis=0) + 1e-9) * np.sqrt(2 / number)
    assert (np.abs(ours.mean(0) - published.mean(0)) <= bound).all()
    assert np.abs(ours.std(0) - published.std(0)).max() <= 0.1 * published.std(0).max() + 1e-9
