"""What is exported of each feeder, the view of whole sequences as tensors, is the view of its batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from feeders.transforms import STREAMS
from tests.feeders.whole import KINDS, feeder_of


@pytest.mark.parametrize("kind", KINDS)
def test_whole_sequences_are_shown_as_batches_are(kind, tmp_path):
    """Whatever the sequences are padded with."""
    clips = {"num_clips": 3} if kind.startswith("poses") else {}
    for stream in STREAMS:
        feeder = feeder_of(kind, tmp_path / stream, stream=stream, window_size=16, **clips)
        rows = np.arange(len(feeder))
        whole = feeder.whole(rows)
        whole.sequence[~whole.inside()] = 7
        assert torch.equal(feeder.whole_view(whole), feeder.batch(rows))
