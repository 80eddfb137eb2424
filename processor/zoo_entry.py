"""A finished run becomes an entry of the zoo.

What is stored is tested again on the run's test set, so that the figures of an entry are those of its file.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor

from feeders.files import parse_json, write_atomically

from .build import build_network
from .card import Card, card_of
from .checkpoint import load_checkpoint
from .config import Config
from .config_files import load_config
from .data import load_data
from .distributed import set_up
from .errors import CheckpointError, ConfigError
from .host import StopSignals
from .run_folder import RunFolder
from .safetensors_file import save_safetensors
from .scores import ScoreFile
from .training import score_split
from .weights import tested_weights
from .yaml_text import yaml_text
from .zoo import LARGEST, PREFIX, ZOO, Entry, read_index, sha256, write_index

log = logging.getLogger(__name__)

NAME = re.compile(r"[a-z0-9][a-z0-9_]*")
FORMS = {"float32": torch.float32, "float16": torch.float16}  # in which weights are stored, the first one that is small


def add(run: Path, name: str, data: str, zoo: Path = ZOO, overwrite: bool = False) -> Entry:
    """Makes an entry of a finished run: weights, card, config, metrics and scores. Cost: a pass over the test set.

    Weights that take more than LARGEST bytes are stored in float16, but for the statistics of batch norms.

    Args:
        run: folder of the run, whose data is where its config says.
        name: letters, digits, ``_``.
        data: what it was trained on, in words.
        zoo: the folder.
        overwrite: replace an entry of this name.

    Raises:
        ConfigError: a name that does not do or is taken, or a run that is not finished.
        CheckpointError: a run without a card, or weights that are too large even in float16.
    """
    folder, index = RunFolder(run), zoo / "index.json"
    entries = read_index(zoo) if index.is_file() else {}
    if not NAME.fullmatch(name):
        raise ConfigError(f"--name {name!r} must be of small letters, digits and _")
    if name in entries and not overwrite:
        raise ConfigError(f"the zoo has a {name!r} already; choose another --name, or --overwrite it")
    state = load_checkpoint(folder.last)
    card = card_of(state, folder.last)
    config = load_config(str(folder.config), {"phase": "test", "ignore_weights": [], "device": "cpu"})
    if not folder.is_complete(config.num_epoch):
        raise ConfigError(f"{run} has no scores of its last epoch ({config.num_epoch - 1}); finish the run first")
    with TemporaryDirectory() as beside:
        path = Path(beside, f"{name}.safetensors")
        dtype = _store(path, state)
        scores, parameters = _tested(config, path)
        entry = Entry(
            name=name, sha256=sha256(path), dtype=dtype, parameters=parameters, data=data,
            **_of_run(card, folder), **figures(scores),
        )  # fmt: skip
        before = folder.read_metrics()[-1]["top1"]
        if entry.top1 != before:
            log.warning(
                "top-1 of the run was %.1f %%; of its weights in %s it is %.1f %%",
                100 * before,
                dtype,
                100 * entry.top1,
            )
        write_atomically(entry.file(zoo), path.read_bytes())
    own = entry.file(zoo).parent
    head = f"# Trains {PREFIX}{name}; with --phase test --weights {PREFIX}{name} it tests that.\n"
    values = config.identity() | {"threads": config.threads, "work_dir": f"work_dir/zoo/{name}"}
    write_atomically(own / folder.config.name, (head + yaml_text(values)).encode())
    write_atomically(own / folder.metrics.name, folder.metrics.read_bytes())
    scores.write(own / folder.scores().name, compressed=True)
    write_index({**entries, name: entry}, zoo)
    return entry


def _store(path: Path, state: Mapping[str, Any]) -> str:
    """Writes weights, card and config in the first form that is small enough; the name of the form.

    The statistics of batch norms stay as they are: they are few, and may be large.
    """
    weights = tested_weights(state)
    for form, dtype in FORMS.items():
        stored = {key: value if ".running_" in key else _as(value, dtype) for key, value in weights.items()}
        save_safetensors(path, {"model": stored, "card": state["card"], "config": state["config"]})
        if path.stat().st_size <= LARGEST:
            return form
    raise CheckpointError(
        f"its weights take {path.stat().st_size} bytes in {form}; the zoo holds files up to {LARGEST}"
    )


def _as(value: Tensor, dtype: torch.dtype) -> Tensor:
    """A weight in another form; CheckpointError where it does not hold its values."""
    if not value.is_floating_point():
        return value
    stored = value.to(dtype)
    if not stored.isfinite().all():
        raise CheckpointError(f"a weight of shape {tuple(value.shape)} has values that {dtype} cannot hold")
    return stored


def _tested(config: Config, weights: Path) -> tuple[ScoreFile, int]:
    """Scores of the test set by a file of weights, and how many parameters the network has."""
    device = set_up(config.device)
    data = load_data(config, device, ("train", "test"))
    network = build_network(config, data, device, str(weights))
    found, test = score_split(config, data, network, "test", StopSignals()), data.loaders["test"]
    scores = ScoreFile(
        str(weights), test.ids, found.logits.numpy().astype(np.float32), test.labels.numpy(), test.class_names,
        data.class_counts, config.groups.many, config.groups.few,
    )  # fmt: skip
    return scores, sum(parameter.numel() for parameter in network.parameters())


def _of_run(card: Card, folder: RunFolder) -> dict[str, Any]:
    """What an entry says of data and training."""
    facts, config = parse_json(folder.environment.read_bytes()), card.config
    return {
        "network": config["model"],
        "classes": len(card.class_names),
        "layout": "unknown" if card.skeleton is None else card.skeleton.name,
        "stream": str((card.view or {}).get("stream", "as its Dataset gives it")),
        "method": f"{config['mixing']}, {config['loss']}",
        "command": f"python {shlex.join(facts['command'])}",
        "seed": config["seed"],
        "epochs": config["num_epoch"],
        "commit": f"{facts['git_commit']}{'-dirty' * bool(facts.get('git_dirty'))}",
    }


def figures(scores: ScoreFile) -> dict[str, Any]:
    """What an entry says of its test scores."""
    metrics, n = scores.metrics(), len(scores.ids)
    interval = binomtest(round(metrics["top1"] * n), n).proportion_ci(method="wilson")
    return {
        "test_samples": n,
        "top1": metrics["top1"],
        "interval": (interval.low, interval.high),
        "mean_class": metrics["mean_class_accuracy"],
    }
