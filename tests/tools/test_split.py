"""tools.split: parts by chance, by subject, by view and by list; its errors."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feeders.convert.prepare import prepare
from feeders.feeder_store import Feeder
from feeders.lists import read_list
from feeders.own_splits import split_rows
from feeders.splitting import PARTS, divide, divide_groups
from feeders.store import DataError, Sample, SkeletonStore
from tests.made_up import DESK, write_store
from tools import split

COUNTS = [20, 9, 3, 2, 1]


@pytest.fixture
def store(tmp_path) -> SkeletonStore:
    """35 takes of five classes by seven subjects, of two views."""
    labels = np.repeat(np.arange(5), COUNTS)
    frames = {f"take {n}": np.ones((4, 1, 13, 3)) for n in range(len(labels))}
    columns = {"subject": np.arange(35) % 7, "view": np.arange(35) % 2, "in val": np.arange(35) == 0}
    names = {"subjects": [f"{n}" for n in (1, 2, 3, 4, 5, 6, 10)], "views": ["left", "right"], "splits": ["val"]}
    return write_store(tmp_path / "mine", frames, labels.tolist(), columns=columns, lists={}, **names)


def run(store: SkeletonStore, *words: str) -> dict[str, list[int]]:
    """The rows of the parts that the command writes."""
    assert split.main([str(store.path), *words]) == 0
    folder = store.path / "splits"
    found = {path.stem: split_rows(store, path.stem).tolist() for path in folder.glob("*.txt")}
    assert sorted(row for rows in found.values() for row in rows) == list(range(35))
    return found


def fails(capsys, store: SkeletonStore, *words: str) -> str:
    capsys.readouterr()
    before = {path: path.read_bytes() for path in store.path.rglob("*.txt")}
    assert split.main([str(store.path), *words]) == 2
    assert before == {path: path.read_bytes() for path in store.path.rglob("*.txt")}
    return capsys.readouterr().err


def test_by_chance(store, capsys):
    found = run(store, "--by", "random", "--test", "0.2", "--val", "0.1")
    counts = {part: np.bincount(store.labels[rows], minlength=5).tolist() for part, rows in found.items()}
    assert counts == {"train": [14, 6, 1, 1, 1], "val": [2, 1, 1, 0, 0], "test": [4, 2, 1, 1, 0]}
    printed = capsys.readouterr().out
    assert "class 0                           14       2       4" in printed
    assert "without a sequence in test: class 4" in printed
    assert "without a sequence in val: class 3, class 4" in printed
    assert len(Feeder(str(store.path), "test")) == 8
    assert run(store, "--by", "random", "--test", "0.2", "--val", "0.1") == found, "the same again"
    other = "--by", "random", "--seed", "1"
    assert "train.txt exists and names other sequences; --overwrite it" in fails(capsys, store, *other)
    again = run(store, *other, "--overwrite")
    assert sorted(again) == ["test", "train"], "no list of an earlier split is left"
    assert "the source's own split val is left" in capsys.readouterr().err
    run(store, *other, "--val", "0.1", "--overwrite")
    assert "the source's own split into val is replaced" in capsys.readouterr().err


def test_by_subject_and_view(store, capsys):
    subject = store.columns["subject"]
    found = run(store, "--by", "subject", "--test_subjects", "2", "4", "10", "--val_subjects", "1")
    assert {part: np.unique(subject[rows]).tolist() for part, rows in found.items()} == {
        "train": [2, 4, 5],
        "val": [0],
        "test": [1, 3, 6],
    }
    found = run(store, "--by", "subject", "--test", "0.3", "--val_subjects", "1", "--overwrite")
    parts = {part: set(subject[rows]) for part, rows in found.items()}
    assert parts["val"] == {0}
    assert len(parts["test"]) == 2
    assert not parts["train"] & parts["test"]
    assert set(store.labels[found["train"]]) == set(range(5)), "training has every class"
    found = run(store, "--by", "view", "--test_views", "right", "--overwrite")
    assert np.unique(store.columns["view"][found["test"]]).tolist() == [1]
    assert "no 7 among 1, 2, 3, 4, 5, 6, 10" in fails(capsys, store, "--by", "subject", "--test_subjects", "7")
    assert "named for validation and" in fails(
        capsys, store, "--by", "subject", "--test_subjects", "1", "--val_subjects", "1"
    )
    assert "there are 2 of them: none would be left" in fails(capsys, store, "--by", "view", "--val", "0.5")
    for share in ("1", "-0.5", "nan"):
        assert "--val and --test are shares" in fails(capsys, store, "--by", "random", "--test", share)
    assert "nothing would be left for the test" in fails(capsys, store, "--by", "random", "--test", "0")


def test_by_list(store, tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("take 3\n\ntake 30\n")
    found = run(store, "--by", "list", "--list", str(tmp_path / "ids.txt"), "--val", "0.1")
    assert found["test"] == [3, 30]
    assert len(found["val"]) == 5
    assert read_list(store.path / "splits" / "test.txt") == ["take 3", "take 30"]
    assert "--by list needs --list FILE" in fails(capsys, store, "--by", "list")
    (tmp_path / "ids.txt").write_text("take 99\n")
    assert "names 1 sequences that are not in" in fails(
        capsys, store, "--by", "list", "--list", str(tmp_path / "ids.txt")
    )


def test_lists_outlive_the_store(tmp_path):
    """Who converts again, with --overwrite, keeps the lists."""

    def read(name: str) -> Sample:
        return Sample(name, 0, np.ones((4, 1, 13, 3)))

    out, meta = tmp_path / "mine", {"layout": asdict(DESK), "class_names": ["all"]}
    prepare(out, "mine", ["a", "b"], read, {}, 1, fingerprint="1", **meta)
    assert split.main([str(out), "--by", "random", "--test", "0.5"]) == 0
    lists = {part: read_list(out / "splits" / f"{part}.txt") for part in ("train", "test")}
    store, _ = prepare(out, "mine", ["a", "b", "c"], read, {}, 1, overwrite=True, fingerprint="2", **meta)
    assert len(store) == 3
    assert lists == {part: read_list(out / "splits" / f"{part}.txt") for part in ("train", "test")}


def test_unknown_subjects(tmp_path, capsys):
    store = write_store(tmp_path / "mine", {"a b": np.ones((4, 1, 13, 3))}, [0], lists={})
    message = fails(capsys, store, "--by", "subject")
    assert "the subject of 1 sequences is not known, such as a b. " in message
    assert "column subject in labels.csv, or with a pattern of the names" in message
    assert "nothing would be left for the test" in fails(capsys, store, "--by", "random")
    assert split.main([str(tmp_path), "--by", "random"]) == 2
    assert "is not a prepared store" in capsys.readouterr().err


@example([0, 0, 0], 0.25, 0.5, 0)
@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0, 0.4), st.floats(0, 0.5), st.integers(0, 9))
def test_every_class_is_in_every_part_where_it_can_be(labels, val, test, seed):
    labels = np.array(labels)
    parts = divide(labels, val, test, np.random.default_rng(seed))
    for label in np.unique(labels):
        counts = np.bincount(parts[labels == label], minlength=3)
        wanted = [1, bool(val) and counts.sum() > 1 + bool(test), bool(test) and counts.sum() > 1]
        assert ((counts > 0) == wanted).all()
        if counts.sum() > 9:
            assert abs(counts[2] - test * counts.sum()) <= 1
    assert PARTS == ("train", "val", "test")


def test_groups_keep_classes(tmp_path):
    """The rare class is of two people, one of whom is for training."""
    labels, groups = np.repeat([0, 1], [50, 4]), np.concatenate([np.arange(50) % 10, [3, 3, 7, 7]])
    for seed in range(5):
        parts = divide_groups(labels, groups, 0.0, 0.2, np.random.default_rng(seed))
        assert set(parts[labels == 1]) == {0, 2}
        assert all(len(set(parts[groups == group])) == 1 for group in range(10))
    with pytest.raises(DataError, match="shares whose sum is below 1"):
        divide_groups(labels, groups, 0.5, 0.6, np.random.default_rng(0))
