"""Labels of new sequences: batches of tools.predict beside one call of the plain network for each sequence.

Sequences are made up, in NTU's layout, 40 to 90 frames of one person. Both begin with the frames as a file has them.
"""

from __future__ import annotations

import argparse
from functools import cache
from tempfile import TemporaryDirectory

import numpy as np
import torch

from feeders.store import SkeletonStore
from feeders.synthetic import ACTIONS, Feeder, synthesize
from model.ctrgcn import Model
from processor.card import Card
from processor.config import Config
from processor.recognition import Recognizer

from .measure import Rows, Variant, compare, no_tf32
from .network import stir

DEFAULTS = {"device": "cpu", "width": (16, 64), "sequences": 128, "repeats": 3}
WINDOW = 64  # frames that the network sees


@cache
def weights(num_class: int, width: int) -> dict[str, torch.Tensor]:
    """The weights of all networks of this width."""
    made = Model(num_class, num_person=1, base_channel=width).eval()
    stir(made)
    with torch.no_grad():  # logits of such weights are in the millions: of a few units, probabilities can be compared
        made.fc.weight /= made(torch.ones(1, 3, WINDOW, 25, 1)).abs().max() / 5
    return made.state_dict()


def recognizer(options: argparse.Namespace, fused: bool, precision: str) -> Recognizer:
    """A network with random weights, which are the same for all."""
    with TemporaryDirectory() as folder:
        view = Feeder("test", num_test=1, window_size=WINDOW, cache_dir=folder).view_state()
    config = Config(feeder="feeders.synthetic.Feeder").identity()
    names = [action.name for action in ACTIONS]
    card = Card(config, (3, WINDOW, 25, 1), 3, names, [1] * len(names), "ntu25", view)
    network = Model(len(names), num_person=1, base_channel=options.width, fused=fused)
    network.load_state_dict(weights(len(names), options.width))
    return Recognizer(card, network, torch.device(options.device), "bf16" if precision == "bf16" else "fp32")


def measure(options: argparse.Namespace) -> dict[str, Rows]:
    """One by one with the plain network, and in batches."""
    rng = np.random.default_rng(0)
    frames = [synthesize(int(rng.integers(len(ACTIONS))), rng) for _ in range(options.sequences)]

    def one_by_one(maker: Recognizer) -> np.ndarray:
        found = []
        for number, sequence in enumerate(frames):
            sample = maker.sample(sequence, name=str(number))
            assert maker.card.view is not None
            x = Feeder.from_view(maker.card.view, SkeletonStore.of([sample])).batch(np.arange(1), options.device)
            with torch.no_grad():
                found.append(maker.network(x).softmax(1).cpu().numpy())
        return np.concatenate(found)

    def in_batches(maker: Recognizer) -> np.ndarray:
        return maker.probabilities([maker.sample(sequence, name=str(n)) for n, sequence in enumerate(frames)])

    plain, ours, quick = (recognizer(options, *words) for words in ((False, "fp32"), (True, "fp32"), (True, "bf16")))
    with no_tf32():
        np.testing.assert_allclose(in_batches(ours), one_by_one(plain), atol=1e-3)
    variants = {
        "plain, one by one": Variant(lambda repeat: one_by_one(plain), len(frames)),
        "predict": Variant(lambda repeat: in_batches(ours), len(frames)),
        "predict, bf16": Variant(lambda repeat: in_batches(quick), len(frames)),
    }
    return {f"CTR-GCN of width {options.width}": compare(variants, options)}
