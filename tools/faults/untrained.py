"""The checkpoint of a tiny network that was never trained, as a run writes it."""

from __future__ import annotations

from pathlib import Path

import torch

from processor.build import build
from processor.card import KEY, make_card
from processor.checkpoint import save_checkpoint
from processor.config_files import load_config
from processor.data import load_data
from processor.yaml_text import yaml_text

from .case import tiny_config


def write_checkpoint(folder: Path, **changes: object) -> Path:
    """``last.pt`` in a folder, of a tiny config with some keys changed."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml_text(tiny_config(folder, mixing="none", **changes)), encoding="utf-8")
    config, device = load_config(str(recipe)), torch.device("cpu")
    data = load_data(config, device, ("train", "test"))
    parts = build(config, data, device)
    card = make_card(config, data, parts.mixer)
    state = {"model": parts.network.state_dict(), "config": config.identity(), KEY: card.plain()}
    save_checkpoint(folder / "last.pt", state)
    return folder / "last.pt"
