"""Long-tailed lists: profiles, subsets, BRL's published lists, the command that writes them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from feeders.feeder_pose import Feeder
from feeders.lists import read_list, write_list
from feeders.longtail import cut_long_tail, exponential_counts, held_out_subjects, long_tailed_subset, step_counts
from feeders.ntu_protocols import CLASSES, PROTOCOLS, parse_names
from feeders.own_splits import split_names, split_rows
from feeders.store import DataError, SkeletonStore
from feeders.synthetic import Feeder as Synthetic
from tests.conftest import annotations, ntu_names, write_ntu_store, write_pickle
from tools import make_longtail, prepare_pose

# --- counts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_class", "imbalance", "wanted"),
    [(4, 10, [100, 100, 10, 10]), (5, 3, [100, 100, 100, 33, 33]), (2, 1, [100, 100]), (2, 100, [100, 1])],
)
def test_step_profile(num_class, imbalance, wanted):
    assert step_counts(100, imbalance, num_class) == wanted


def test_exponential_profile():
    assert exponential_counts(100, 100, 3) == [100, 10, 1]
    assert exponential_counts(7, 1, 3) == [7, 7, 7]
    for imbalance, total in ((10, 28182), (50, 18137), (100, 15600)):
        assert sum(exponential_counts(600, imbalance, 120)) == total, "as long as the published lists"


@pytest.mark.parametrize("profile", [exponential_counts, step_counts])
@pytest.mark.parametrize("values", [(0, 10, 5), (10, 0.5, 5), (10, 10, 1), (10, math.nan, 5), (10, math.inf, 5)])
def test_impossible_profiles(profile, values):
    with pytest.raises(ValueError, match="need n_max >= 1, imbalance >= 1, classes >= 2"):
        profile(*values)


# --- subsets ---------------------------------------------------------------------------------------------------------


def test_too_few():
    labels = np.array([0] * 5 + [1] * 2 + [3])
    with pytest.raises(DataError, match="2 classes have too few: class 1 has 2 samples, 3 are asked for; class 2"):
        long_tailed_subset(labels, [4, 3, 1, 1])
    kept = long_tailed_subset(labels, [4, 3, 1, 1], allow_fewer=True)
    assert np.bincount(labels[kept], minlength=4).tolist() == [4, 2, 0, 1]
    assert len(set(kept.tolist())) == 7


def test_empty_classes():
    labels = np.array([0, 0, 1, 1, 2])
    with pytest.raises(DataError, match="classes 1, 2 would be empty; raise n_max or lower imbalance"):
        long_tailed_subset(labels, [2, 0, 0])
    assert labels[long_tailed_subset(labels, [2, 0, 0], allow_fewer=True)].tolist() == [0, 0]


def test_one_generator_for_all_classes():
    """A class of which nothing is kept still advances the generator; another seed gives another subset."""
    labels = np.repeat([0, 1], 50)
    both, second = (long_tailed_subset(labels, counts, allow_fewer=True) for counts in ([10, 10], [0, 10]))
    assert both[10:].tolist() == second.tolist()
    assert long_tailed_subset(labels, [10, 10], seed=1).tolist() != both.tolist()
    assert long_tailed_subset(labels, [30, 30])[:10].tolist() == both[:10].tolist(), (
        "larger subsets begin with the same rows"
    )


def test_held_out_subjects():
    subjects = np.repeat([3, 5, 7, 9], 4)
    assert held_out_subjects(subjects, [5, 9], 0).tolist() == np.isin(subjects, [5, 9]).tolist()
    assert not held_out_subjects(subjects, [], 0).any()
    drawn = held_out_subjects(subjects, [], 0.5)
    assert drawn.sum() == 8
    assert (drawn == held_out_subjects(subjects, [], 0.5)).all()
    assert any((drawn != held_out_subjects(subjects, [], 0.5, seed)).any() for seed in range(1, 6))
    assert held_out_subjects(subjects, [], 0.01).sum() == 4, "at least one subject"
    order = np.random.default_rng(0).permutation(16)
    assert (held_out_subjects(subjects[order], [], 0.5) == drawn[order]).all(), "whatever the sequences' order"


# --- the published lists ---------------------------------------------------------------------------------------------


def test_names_and_missing(ntu_lt):
    """The published names are all possible names without those on NTU's lists of missing skeletons."""
    for dataset, number, missing in (("ntu60", 56578, 302), ("ntu120", 113945, 535)):
        names, absent = (read_list(ntu_lt / f"{dataset}_{kind}.txt") for kind in ("names", "missing"))
        assert (len(names), len(absent)) == (number, missing)
        assert not set(names) & set(absent)
        assert names == sorted(names)


@pytest.mark.parametrize("split", ["xsub", "xset"])
def test_training_sets_in_order(ntu_lt, split):
    """The sets that the lists were selected from: XSub ordered by subject, XSet by name."""
    names = read_list(ntu_lt / "ntu120_names.txt")
    rows = PROTOCOLS[f"ntu120_{split}"].rows(parse_names(names), train=True)
    ours, published = [names[row] for row in rows], read_list(ntu_lt / f"NTU120_{split}_train.txt")
    assert set(ours) == set(published)
    assert ours == published


@pytest.mark.parametrize("split", ["xsub", "xset"])
@pytest.mark.parametrize("imbalance", [10, 50, 100])
def test_ntu120_lists_come_out_exactly(ntu_lt, tmp_path, capsys, split, imbalance):
    """From the names alone, equal to the last byte but for the final line end."""
    names = str(ntu_lt / "ntu120_names.txt")
    words = ["--names", names, "--split", split, "--imbalance", str(imbalance), "--out", str(tmp_path)]
    assert make_longtail.main(words) == 0
    (path,) = tmp_path.iterdir()
    assert path.name == f"NTU120_{split}_exp_{imbalance}.txt"
    assert path.read_text().splitlines() == (ntu_lt / path.name).read_text().split()
    assert str(path) in capsys.readouterr().out


@pytest.mark.parametrize("split", ["xsub", "xview"])
@pytest.mark.parametrize("imbalance", [10, 50, 100])
def test_ntu60_lists_are_of_their_splits(ntu_lt, split, imbalance):
    """They are read: known training sequences, with the protocol's counts, class by class."""
    rule = PROTOCOLS[f"ntu60_{split}"]
    names = read_list(ntu_lt / "ntu60_names.txt")
    training = {names[row] for row in rule.rows(parse_names(names), train=True)}
    kept = read_list(ntu_lt / f"NTU60_{split}_exp_{imbalance}.txt")
    assert set(kept) <= training
    labels = parse_names(kept)["action"] - 1
    assert np.bincount(labels, minlength=60).tolist() == exponential_counts(rule.n_max, imbalance, 60)


@pytest.mark.parametrize("split", ["xsub", "xset"])
@pytest.mark.parametrize("imbalance", [10, 50, 100])
def test_ntu120_lists_are_of_their_splits(ntu_lt, split, imbalance):
    rule = PROTOCOLS[f"ntu120_{split}"]
    kept = read_list(ntu_lt / f"NTU120_{split}_exp_{imbalance}.txt")
    assert set(kept) <= set(read_list(ntu_lt / f"NTU120_{split}_train.txt"))
    labels = parse_names(kept)["action"] - 1
    assert np.bincount(labels, minlength=120).tolist() == exponential_counts(rule.n_max, imbalance, 120)


# --- the command -----------------------------------------------------------------------------------------------------

NAMES = ntu_names(setups=(1, 2), cameras=(2, 3), subjects=(1, 2, 3), actions=range(1, 61))  # 8 to train of a class


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    frames = np.ones((1, 1, 25, 3))
    return str(write_ntu_store(tmp_path_factory.mktemp("stores") / "ntu60", dict.fromkeys(NAMES, frames), "ntu60"))


def make(store, out, *words, split="xsub", imbalance="4", n_max="8"):
    """Runs the command for a store that has few sequences."""
    words = [*words, "--n_max", n_max] if n_max else [*words]
    return make_longtail.main(
        ["--store", store, "--split", split, "--imbalance", imbalance, "--out", str(out), *map(str, words)]
    )


def fails(capsys, code, *wanted):
    message = capsys.readouterr().err
    assert code == 2, message
    assert message.startswith("error: ")
    for text in wanted:
        assert text in message, message


def test_list_from_a_store(store, tmp_path, capsys):
    assert make(store, tmp_path / "lists") == 0
    path = tmp_path / "lists" / "NTU60_xsub_exp_4_max_8.txt"
    names = read_list(path)
    labels = parse_names(names)["action"] - 1
    counts = np.bincount(labels, minlength=60)
    assert counts.tolist() == exponential_counts(8, 4, 60)
    assert (np.diff(labels) >= 0).all(), "class by class"
    assert {name[8:12] for name in names} == {"P001", "P002"}
    table = capsys.readouterr().out.splitlines()
    assert table[1].split() == ["drink", "water", "8"]
    assert table[60].split() == ["walking", "apart", "2"]
    assert table[61] == f"{counts.sum()} sequences in 60 classes (0 many, 0 medium, 60 few), imbalance 4"
    assert table[62] == str(path)
    assert "use BRL's own NTU60 lists, selected from an unsorted listing" in table[63]


def test_shot_groups(capsys):
    text = make_longtail.summary([101, 100, 20, 19, 0], CLASSES[:5])
    assert "240 sequences in 5 classes (1 many, 2 medium, 2 few), imbalance infinite" in text
    assert CLASSES[4] in text


@pytest.mark.parametrize(
    ("changes", "words", "name"),
    [
        ({}, ["--profile", "step"], "NTU60_xsub_step_4_max_8.txt"),
        ({}, ["--seed", "3"], "NTU60_xsub_exp_4_max_8_seed_3.txt"),
        ({"imbalance": "2.5"}, [], "NTU60_xsub_exp_2.5_max_8.txt"),
        ({"split": "xview"}, [], "NTU60_xview_exp_4_max_8.txt"),
        ({"n_max": "600"}, ["--allow-fewer"], "NTU60_xsub_exp_4.txt"),
        ({"n_max": None}, ["--allow-fewer"], "NTU60_xsub_exp_4.txt"),
    ],
)
def test_file_names(store, tmp_path, changes, words, name):
    """Different lists have different names; the protocol's n_max and seed give the published name."""
    assert make(store, tmp_path, *words, **changes) == 0
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_seeds_and_profiles_differ(store, tmp_path):
    lists = []
    for number, words in enumerate(([], ["--seed", "1"], ["--profile", "step"])):
        path = tmp_path / f"{number}.txt"
        assert make(store, path, *words) == 0, "a .txt file is written under that name"
        lists.append(read_list(path))
    assert len(lists[0]) == len(lists[1])
    assert lists[0] != lists[1]
    counts = np.bincount(parse_names(lists[2])["action"] - 1)
    assert counts.tolist() == [8] * 30 + [2] * 30


def test_too_few_in_a_store(store, tmp_path, capsys):
    fails(
        capsys,
        make(store, tmp_path, n_max="9"),
        "classes have too few: class 0 has 8 samples, 9 are asked for",
    )
    fails(capsys, make(store, tmp_path, imbalance="100"), "would be empty; raise n_max or lower imbalance")
    assert not any(tmp_path.iterdir())
    assert make(store, tmp_path, "--allow-fewer", n_max="9") == 0
    assert make(store, tmp_path, "--allow-fewer", imbalance="100") == 0
    assert "imbalance infinite" in capsys.readouterr().out


def test_never_over_another_list(store, tmp_path, capsys):
    path = tmp_path / "NTU60_xsub_exp_4_max_8.txt"
    path.write_text("S001C001P001R001A001\n")
    fails(capsys, make(store, tmp_path), f"{path} exists and names other sequences; --overwrite it, or write elsewhere")
    assert path.read_text() == "S001C001P001R001A001\n"
    path.write_text("")
    fails(capsys, make(store, tmp_path), f"{path}")
    assert make(store, tmp_path, "--overwrite") == 0
    written = path.read_text()
    assert make(store, tmp_path) == 0, "the same list may be written again"
    assert path.read_text() == written
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"n_max": "0"}, "need n_max >= 1, imbalance >= 1, classes >= 2; got 0, 4.0, 60"),
        ({"imbalance": "0.5"}, "need n_max >= 1, imbalance >= 1"),
        ({"imbalance": "nan"}, "need n_max >= 1, imbalance >= 1"),
        ({"imbalance": "inf"}, "need n_max >= 1, imbalance >= 1"),
        ({"split": "xset"}, "no protocol ntu60_xset; there are ntu60_xsub, ntu60_xview, ntu120_xsub, ntu120_xset"),
        ({"store": "absent"}, "store absent cannot be read"),
    ],
)
def test_bad_words(store, tmp_path, capsys, changes, wanted):
    fails(capsys, make(**{"store": store, "out": tmp_path / "out", **changes}), wanted)
    assert not (tmp_path / "out").exists()


def test_bad_seed(store, tmp_path, capsys):
    fails(capsys, make(store, tmp_path, "--seed", "-1"), "Seed must be between 0 and")


def test_bad_names(tmp_path, capsys):
    path = tmp_path / "names.txt"
    path.write_text("S001C001P001R001A001\nsomebody\n")
    words = ["--names", str(path), "--split", "xsub", "--imbalance", "10", "--out", str(tmp_path / "out")]
    fails(capsys, make_longtail.main(words), f"{path}: 1 names are not SsssCcccPpppRrrrAaaa: somebody")
    words[1] = str(tmp_path / "none.txt")
    fails(capsys, make_longtail.main(words), "none.txt cannot be read")
    with pytest.raises(SystemExit, match="2"):
        make_longtail.main(words[2:])
    assert not (tmp_path / "out").exists()


def test_ntu60_out_of_an_ntu120_store(tmp_path):
    """Set-ups from 18 on are left out; without --dataset, names are those of NTU 120."""
    names = [*NAMES, *ntu_names(setups=(18,), cameras=(2, 3), subjects=(1,), actions=range(61, 121))]
    path = tmp_path / "names.txt"
    path.write_text("\n".join(names))
    common = ["--names", str(path), "--split", "xsub", "--imbalance", "4", "--n_max", "8", "--out", str(tmp_path)]
    assert make_longtail.main([*common, "--dataset", "ntu60"]) == 0
    assert max(parse_names(read_list(tmp_path / "NTU60_xsub_exp_4_max_8.txt"))["action"]) == 60
    assert make_longtail.main([*common, "--allow-fewer"]) == 0
    assert max(parse_names(read_list(tmp_path / "NTU120_xsub_exp_4_max_8.txt"))["action"]) == 120


# --- any store, any pickle -------------------------------------------------------------------------------------------


def cut(tmp_path, *words: str, imbalance: str = "4") -> tuple[str, list[str]]:
    """Name and contents of the list that the command writes."""
    out = tmp_path / "lists"
    known = set(out.iterdir()) if out.is_dir() else set()
    assert make_longtail.main([*words, "--imbalance", imbalance, "--out", str(out)]) == 0
    (path,) = set(out.iterdir()) - known
    return path.name, read_list(path)


def test_ntu_from_its_3d_pickle(tmp_path):
    """Names decide: the list of a pickle, of its store and of the names alone are the same one."""
    made = [
        {"frame_dir": name, "label": int(name[-3:]) - 1, "keypoint": np.ones((1, 2, 25, 3), np.float32)}
        for name in sorted(NAMES, key=lambda name: name[::-1])
    ]
    path = write_pickle(tmp_path / "ntu60_3danno.pkl", {"split": {"xsub_train": NAMES[:9]}, "annotations": made})
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    options = ["--split", "xsub", "--n_max", "8"]
    name, wanted = cut(tmp_path, "--names", str(tmp_path / "names.txt"), "--dataset", "ntu60", *options)
    (tmp_path / "lists" / name).unlink()
    assert cut(tmp_path, "--ann_file", str(path), *options) == (name, wanted)
    (tmp_path / "lists" / name).unlink()
    assert prepare_pose.main([str(path), "--out", str(tmp_path / "store"), "--jobs", "1"]) == 0
    options[1] = "xsub_train"
    assert cut(tmp_path, "--store", str(tmp_path / "store"), *options) == (name, wanted)


def test_any_split_of_any_pickle(tmp_path, capsys):
    """By default as many as fit; --order-seed says which classes are rare; the feeder takes the list."""
    path = str(write_pickle(tmp_path / "mine.pkl", annotations(60)))
    other = annotations(60)
    for one in other["annotations"]:
        one["keypoint"] = one["keypoint"][:, :, :13]
    other = str(write_pickle(tmp_path / "other.pkl", other))
    assert cut(tmp_path, "--ann_file", other, "--split", "train")[0] == "other_train_exp_4_max_14.txt", "any joints"
    words = ["--ann_file", path, "--split", "train"]
    name, names = cut(tmp_path, *words)
    assert name == "mine_train_exp_4_max_14.txt"
    feeder = Feeder(ann_file=path, split_path=str(tmp_path / "lists" / name))
    assert sorted(feeder.ids) == sorted(names)
    assert np.bincount(feeder.labels).tolist() == [14, 7, 3]
    counts = []
    for seed in range(6):
        name, _ = cut(tmp_path, *words, "--n_max", "12", "--order-seed", str(seed))
        assert name == f"mine_train_exp_4_max_12_order_{seed}.txt"
        feeder = Feeder(ann_file=path, split_path=str(tmp_path / "lists" / name))
        counts.append(tuple(np.bincount(feeder.labels).tolist()))
    assert len(set(counts)) > 1
    assert {tuple(sorted(count)) for count in counts} == {(3, 6, 12)}
    fails(capsys, make_longtail.main([*words[:2], "--imbalance", "4"]), "name the one that is cut as split: train, val")
    for split, wanted in (("val", "is no training set"), ("xsub", "has no split 'xsub'; there are train, val")):
        fails(capsys, make_longtail.main([*words[:3], split, "--imbalance", "4", "--out", str(tmp_path)]), wanted)


def test_lists_of_a_store(tmp_path, capsys):
    """A list wins over the column of its name, and the cut of a store of one's own lies beside its lists."""
    pickled = write_pickle(tmp_path / "mine.pkl", annotations(60))
    out = tmp_path / "mine"
    assert prepare_pose.main([str(pickled), "--out", str(out), "--jobs", "1"]) == 0
    store = SkeletonStore(out)
    assert split_names(store) == ["train", "val"]
    assert split_rows(store, "val").tolist() == list(range(40, 60))
    own = out / "splits" / "train.txt"
    write_list(own, store.ids[30:5:-1])
    write_list(out / "splits" / "test.txt", store.ids[:6])
    assert split_names(store) == ["train", "val", "test"]
    assert split_rows(store, "train").tolist() == list(range(6, 31))
    assert split_rows(store, "test").tolist() == list(range(6))
    words = ["--store", str(out), "--split", "train", "--imbalance", "4"]
    assert make_longtail.main(words) == 0
    cut_train = read_list(out / "splits" / "train_exp_4_max_9.txt")
    assert set(cut_train) <= set(store.ids[6:31])
    assert split_rows(store, "train_exp_4_max_9").tolist() == sorted(map(store.ids.index, cut_train))
    with pytest.raises(DataError, match=r"no split 'xsub'; there are train, val, test, train_exp.* tools.split "):
        split_rows(store, "xsub")
    own.write_text("somebody\n")
    with pytest.raises(DataError, match=r"train.txt names 1 sequences that are not in .*mine: somebody"):
        split_rows(store, "train")
    own.write_text("\n")
    fails(capsys, make_longtail.main(words), f"{own} is empty")


def test_a_store_of_one_set(tmp_path, capsys):
    store = Synthetic(n_max=20, imbalance=1, cache_dir=str(tmp_path)).store
    name, names = cut(tmp_path, "--store", str(store.path), imbalance="10")
    assert name.endswith("_exp_10_max_20.txt")
    labels = [store.labels[store.ids.index(one)] for one in names]
    assert np.bincount(labels).tolist() == exponential_counts(20, 10, 12)
    words = ["--store", str(store.path), "--split", "train", "--imbalance", "4", "--out", str(tmp_path)]
    fails(capsys, make_longtail.main(words), "it is one set: leave out split")


def test_read_list(tmp_path):
    path = Path(tmp_path / "list.txt")
    path.write_bytes(b"a.skeleton\r\nb\r\n\r\n  c\n")
    assert read_list(path) == ["a", "b", "c"]


def test_a_config_can_draw_which_classes_are_rare():
    labels = np.repeat(np.arange(5), 16)
    plain = cut_long_tail(labels, 5, {"imbalance": 16})
    assert np.bincount(labels[plain]).tolist() == [16, 8, 4, 2, 1]
    counts = [
        np.bincount(labels[cut_long_tail(labels, 5, {"imbalance": 16, "order_seed": seed})]).tolist() for seed in (3, 4)
    ]
    assert sorted(counts[0]) == sorted(counts[1]) == [1, 2, 4, 8, 16]
    assert counts[0] != counts[1]
