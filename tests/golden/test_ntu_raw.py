"""The whole NTU preparation against the published one: raw files -> store -> arrays, and the same batches from both."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from feeders.feeder_ntu import Feeder
from feeders.store import SkeletonStore
from feeders.transforms import STREAMS
from tools import prepare_ntu

ARRAYS = {
    "NTU60_CS": "ntu60_xsub",
    "NTU60_CV": "ntu60_xview",
    "NTU120_CSub": "ntu120_xsub",
    "NTU120_CSet": "ntu120_xset",
}


@pytest.fixture(scope="module")
def stores(golden_path, tmp_path_factory) -> dict[str, Path]:
    """The store of each data set, with CTR-GCN's arrays in it."""
    raw, folder = golden_path("ntu_raw"), tmp_path_factory.mktemp("stores")
    for dataset in ("ntu60", "ntu120"):
        words = ["--raw", str(raw), "--out", str(folder / dataset), "--dataset", dataset, "--npz", "--jobs", "1"]
        assert prepare_ntu.main(words) == 0
    return {dataset: folder / dataset for dataset in ("ntu60", "ntu120")}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name, stores, golden):
    want = golden(f"ntu_raw_expected_{name}")
    with np.load(stores[ARRAYS[name].partition("_")[0]] / f"{name}.npz", allow_pickle=False) as file:
        ours = dict(file)
    assert list(ours) == list(want)
    for key, values in want.items():
        assert (ours[key].shape, ours[key].dtype) == (values.shape, values.dtype), key
        np.testing.assert_allclose(ours[key], values, rtol=0, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("name", ARRAYS)
def test_batches(name, stream, stores, golden_path, tmp_path):
    """The store and the published arrays: the same samples in the same order, with and without draws."""
    protocol = ARRAYS[name]
    expected = str(golden_path(f"ntu_raw_expected_{name}.npz"))
    for split in ("train", "test"):
        options = {"split": split, "stream": stream, "random_rot": True}
        ours = Feeder(str(stores[protocol.partition("_")[0]]), protocol=protocol, **options)
        theirs = Feeder(expected, cache_dir=str(tmp_path), **options)
        assert ours.labels.tolist() == theirs.labels.tolist()
        rows = np.arange(len(theirs))
        draws = ours.draw(len(rows), torch.Generator().manual_seed(1))
        for seen in (None, draws):
            torch.testing.assert_close(ours.batch(rows, draws=seen), theirs.batch(rows, draws=seen), rtol=0, atol=2e-5)
        torch.testing.assert_close(ours.padded_joints(rows), theirs.padded_joints(rows), rtol=0, atol=1e-5)


def test_one_store_of_all_splits(stores, tmp_path):
    """NTU 60's protocols give the same from the store of NTU 120 as from their own."""
    whole, own = SkeletonStore(stores["ntu120"]), SkeletonStore(stores["ntu60"])
    assert set(own.ids) < set(whole.ids)
    for protocol in ("ntu60_xsub", "ntu60_xview"):
        for split in ("train", "test"):
            feeders = [Feeder(str(stores[name]), split, protocol) for name in ("ntu120", "ntu60")]
            assert feeders[0].ids == feeders[1].ids
            rows = np.arange(len(feeders[0]))
            assert torch.equal(feeders[0].batch(rows), feeders[1].batch(rows))


def test_archives_give_the_same_store(stores, golden_path, tmp_path):
    """Two zip archives, one compressed and one not, read by two processes."""
    files = sorted(golden_path("ntu_raw").iterdir())
    for number, method in enumerate((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)):
        with zipfile.ZipFile(tmp_path / f"{number}.zip", "w", method) as archive:
            for file in files[number::2]:
                archive.write(file, f"nturgb+d_skeletons/{file.name}")
    words = ["--raw", str(tmp_path / "0.zip"), str(tmp_path / "1.zip"), "--out", str(tmp_path / "ntu120")]
    assert prepare_ntu.main([*words, "--dataset", "ntu120", "--jobs", "2", "--strict"]) == 0
    assert SkeletonStore(tmp_path / "ntu120").checksum == SkeletonStore(stores["ntu120"]).checksum
    assert json.loads((tmp_path / "ntu120" / "report.json").read_text())["used"] == 14


def test_left_out(stores):
    report = json.loads((stores["ntu60"] / "report.json").read_text())
    assert report["used"] == 12
    assert sorted(report["left_out"]["not of ntu60"]) == ["S018C001P045R001A061", "S019C002P041R002A106"]
