"""Every kind of file that is read, damaged in many places; and what was once taken for whole."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import islice, product

import numpy as np
import pytest
import torch

from feeders.files import parse_json, sealed, unsealed
from feeders.store import DataError, SkeletonStore
from processor.checkpoint import load_checkpoint
from processor.errors import CheckpointError, ConfigError
from processor.run_folder import MetricsLog, RunFolder
from processor.safetensors_file import save_safetensors
from processor.saliency_file import read_table, write_table
from processor.scores import ScoreFile, read_scores
from shapmix import ShapMix
from tools.faults import torn
from tools.faults.case import outcome_of


def test_a_thousand_cases(tmp_path):
    fates = Counter()
    for case in islice(torn.cases(random.Random(22), tmp_path), 1000):
        outcome = outcome_of(case)
        assert outcome.fate != "lost", f"{case.name}: {outcome.detail}"
        fates[outcome.fate] += 1
    assert fates["refused"] > 500


def test_what_a_seal_sees():
    whole = sealed({"epoch": 3, "loss": float("nan"), "per_class": [0.5, None]})
    assert list(unsealed(whole)) == ["epoch", "loss", "per_class"]
    assert unsealed({"epoch": 3}) == {"epoch": 3}, "an older version wrote no seal"
    last = list(whole)[-1]
    renamed = {key if key != last else last.replace("rest", "rust"): value for key, value in whole.items()}
    for damaged in ({**whole, "epoch": 4}, {**whole, last: 0}, renamed, {**whole, "more": 1}, [1], 7, "text"):
        with pytest.raises(ValueError, match=r"has changed since|it holds a"):
            unsealed(damaged)


def test_any_byte_of_a_sealed_text():
    values = {"epoch": 3, "top1": 0.5, "problems": {"a": "b"}}
    text = json.dumps(sealed(values)).encode()
    refused = 0
    for place, byte in product(range(len(text)), range(256)):
        try:
            says = unsealed(parse_json(text[:place] + bytes([byte]) + text[place + 1 :]))
        except ValueError:
            refused += 1
        else:
            assert says == values, (place, bytes([byte]))
    assert refused > 0.99 * 255 * len(text), "all but another kind of white space"


def test_a_changed_digit_of_the_metrics(tmp_path):
    run = RunFolder(tmp_path)
    record = MetricsLog(run, 0)
    for epoch in range(3):
        record.add({"epoch": epoch, "top1": 0.5})
    record.close()
    run.metrics.write_text(run.metrics.read_text().replace("0.5", "0.7", 1))
    assert [line["epoch"] for line in run.read_metrics()] == [1, 2]
    assert run.damaged_metrics() == [1]


def test_a_changed_entry_of_a_store(tmp_path):
    (target, *_) = (one for one in torn.written(tmp_path) if one.path.name == "meta.json")
    meta = json.loads(target.path.read_text())
    target.path.write_text(json.dumps({**meta, "problems": {}}))
    with pytest.raises(DataError, match=r"store cannot be read \(it has changed since it was written"):
        SkeletonStore(target.path.parent)


def test_a_changed_header_of_weights(tmp_path):
    path = tmp_path / "w.safetensors"
    state = {"model": {"fc.weight": torch.ones(2, 3)}, "card": {"temperature": 1.25}}
    save_safetensors(path, state)
    whole = path.read_bytes()
    assert load_checkpoint(path)["card"] == state["card"]
    names = ((b'"card"', b'"Dard"'), (b"checksum_of", b"cheHksum_of"))  # together the card would be gone without a word
    for changes in [((b"1.25", b"9.25"),), ((b"fc.weight", b"fc.weigth"),), ((b"[2,3]", b"[3,2]"),), names]:
        damaged = whole
        for before, after in changes:
            damaged = damaged.replace(before, after)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"w.safetensors is damaged .*its header is not"):
            load_checkpoint(path)


def test_a_damaged_name_in_a_score_file(tmp_path):
    """The labels would be missing without a word."""
    path = tmp_path / "s.npz"
    ScoreFile("", ["a", "b"], np.eye(2), np.arange(2)).write(path)
    content = path.read_bytes()
    place = content.rindex(b"labels.npy")
    path.write_bytes(content[:place] + b"lebels.npy" + content[place + 10 :])
    with pytest.raises(ValueError, match=r"s.npz is damaged"):
        read_scores(path)


@pytest.mark.parametrize("damage", ["value", "end", "more", "brackets"])
def test_damaged_saliency_tables(tmp_path, damage):
    mixer, path = ShapMix("ntu25", class_counts=[9, 3]), tmp_path / "joint_saliency.npy"
    mixer.saliency.table.fill_(0.25)
    write_table(path, mixer)
    whole = path.read_bytes()
    np.testing.assert_array_equal(np.load(path), 0.25, "numpy reads it as it is")
    read_table(path, mixer)
    path.write_bytes(whole[: whole.index(b"crc32")])
    read_table(path, mixer)  # as the official code writes it
    path.write_bytes({
        "value": whole[:200] + b"\1" + whole[201:],
        "end": whole[:-20] + bytes(20),
        "more": whole[:-9] + b"more",
        "brackets": whole[:20] + b"(" * 20 + whole[40:],
    }[damage])  # fmt: skip
    with pytest.raises(ConfigError, match=r"joint_saliency.npy cannot be read as a .npy file"):
        read_table(path, mixer)
