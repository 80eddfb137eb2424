"""A user's own Dataset and network: filled in, checked, reproducible, and never blamed without file and line."""

from __future__ import annotations

import csv
import random
import sys

import numpy as np
import pytest
import torch
from scipy.special import softmax

import main
from feeders.synthetic_pose import Feeder as Synthetic
from processor import overlap, own_dataset
from processor.checkpoint import load_checkpoint, save_checkpoint
from processor.config_files import load_config
from processor.data import load_data
from processor.own_dataset import DatasetLoader
from processor.scores import read_scores
from processor.user_code import explained
from tests.own import Feeder
from tests.processor.test_bad_input import fails

CPU = torch.device("cpu")


def loader(dataset, **changes):
    return DatasetLoader(dataset, **{"num_class": 3, "batch_size": 4, "seed": 1, "device": CPU, **changes})


def raised(work):
    """The error that this ends with."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        work()
    return caught.value


@pytest.fixture
def own(write_config):
    """Words of a run on tests.own.Feeder; keys that are None are left out."""

    def words(**changes: object) -> list[str]:
        values = {
            "feeder": "tests.own.Feeder", "feeder_args": None, "train_feeder_args": None, "layout": "ntu25",
            "test_feeder_args": {"seed": 1}, "model_args": {"num_class": 3, "base_channel": 4}, "num_epoch": 1,
            **changes,
        }  # fmt: skip
        return ["--config", write_config(**values), "--plugin", "tests"]

    return words


# --- samples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        ("frames", r"9 frames instead of 16: shape \(3, 9, 25, 1\), but sample a0 \(index 0\) has \(3, 16, 25, 1\)"),
        ("empty", r"has 0 frames"),
        ("flat", r"has data of shape \(16, 25, 1\); a Dataset's sample is \(data \(C, T, V, M\), label, index\)"),
        ("objects", "no array of numbers"),
        ("dict", "is a dict of 2: data, label; a Dataset's sample"),
        ("four", "is a tuple of 4"),
        ("alone", "is a ndarray; a Dataset's sample"),
        ("one_hot", "has 3 numbers as label"),
        ("text", "has the text 'wave' as label; labels are whole numbers"),
        ("fraction", r"has label 2\.5"),
        ("none", "has a NoneType as label"),
        ("negative", r"has label -1, outside the classes 0\.\.2"),
        ("large", r"has label 3, outside the classes 0\.\.2"),
        ("other", "comes with label 0, but the Dataset's list of labels says 2"),
        ("nan", "has NaN or infinite values"),
        ("raises", r"ValueError: invalid literal for int.*own\.py, line \d+, in Feeder\.odd"),
    ],
)
def test_bad_sample(fault, wanted):
    with pytest.raises(ValueError, match=r"sample a5 \(index 5\)") as caught:
        list(loader(Feeder(fault=fault, names="a")).in_order(4))
    caught.match(wanted)


@pytest.mark.parametrize("fault", ["one_hot", "raises", "nan"])
def test_bad_sample_while_labels_are_read(fault):
    with pytest.raises(ValueError, match="sample 5"):
        loader(Feeder(fault=fault, listed=False))


def test_bad_sample_of_a_loading_process(caplog):
    caplog.set_level("DEBUG", "processor")
    with pytest.raises(ValueError, match=r"^Feeder: sample 5: ValueError: invalid literal.*Feeder\.odd\)$"):
        list(loader(Feeder(fault="raises"), num_worker=1).in_order(4))
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("fault", ["odd", "reversed", "pair"])
def test_unusual_samples(fault):
    x = torch.cat([batch.x for batch in loader(Feeder(fault=fault)).in_order(4)])
    assert x.dtype == torch.float32
    assert x.shape == (12, 3, 16, 25, 1)
    wanted = Feeder().x
    wanted[5] = wanted[5, :, ::-1] if fault == "reversed" else wanted[5]
    np.testing.assert_array_equal(x.numpy(), wanted)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"__len__": None}, "has no __len__"),
        ({"class_names": ["a", "b"]}, "class_names has 2 names, but model_args.num_class is 3"),
        ({"labels": [[1, 0, 0]] * 12}, "sample 0 has 3 numbers as label"),
        ({"labels": ["a"] * 12}, "sample 0 has the text 'a' as label"),
        ({"labels": [1, 2, 3] * 4}, "counted from 0: subtract 1"),
        ({"labels": [0, 1, 2] * 3}, "12 samples, 9 labels"),
        ({"sample_name": ["a"] * 12}, r"1 different names \(a 12 times\)"),
    ],
)
def test_bad_lists(changes, wanted):
    if "__len__" in changes:
        dataset = [][:0].__iter__()
    else:
        dataset = Feeder()
        vars(dataset).update(changes)
    with pytest.raises(ValueError, match=wanted):
        loader(dataset)


def test_names_say_the_classes():
    dataset = Feeder()
    dataset.class_names = ["a", "b", "c", "d"]
    assert loader(dataset, num_class=None).class_counts == [4, 4, 4, 0]


# --- draws -----------------------------------------------------------------------------------------------------------


def test_augmentation_by_global_generators(monkeypatch):
    """The same samples twice, with loading processes, from the middle of an epoch, and for one of two processes."""
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    whole = [batch.x for batch in loader(Feeder(augment=True)).shuffled(2)]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[:2]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])
    assert not torch.equal(whole[0], next(loader(Feeder(augment=True)).shuffled(3)).x)
    resumed = [batch.x for batch in loader(Feeder(augment=True), num_worker=2).shuffled(2, 1)]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(whole[1:], resumed, strict=True))
    monkeypatch.setattr(own_dataset, "own_slice", lambda rows: rows[2:])
    second = [batch.x for batch in loader(Feeder(augment=True)).shuffled(2)]
    assert all(torch.equal(ours[2:], theirs) for ours, theirs in zip(whole, second, strict=True))


def test_constructor_draws(own, monkeypatch):
    monkeypatch.setattr(Feeder, "__init__", drawing(Feeder.__init__))
    sets = [load_data(load_config(own()[1], plugins=["tests"]), CPU).feeders["train"].x for _ in range(2)]
    np.testing.assert_array_equal(*sets)


def drawing(constructor):
    def with_draws(self, seed=0, **args):
        constructor(self, **args)
        self.x += np.random.normal(size=self.x.shape)  # noqa: NPY002

    return with_draws


# --- what is filled in -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [2, 3, 6])
def test_its_report_shows_any_number_of_channels(own, capsys, tmp_path, channels):
    shape = {"shape": [channels, 16, 25, 1]}
    words = own(feeder_args=shape, test_feeder_args={"seed": 1, "names": "a"}, report=True)
    assert main.main(words) == 0
    assert "report could not be made" not in capsys.readouterr().out
    assert "a0" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("shape", [[3, 16, 25, 1], [3, 16, 25, 3], [2, 16, 25, 1]])
def test_shape_is_filled_in(own, shape):
    assert main.main(own(feeder_args={"shape": shape}, mixing="none")) == 0


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"feeder_args": {"shape": [3, 16, 17, 1]}}, ["layout 'ntu25' has 25 joints", "(3, 16, 17, 1)"]),
        ({"feeder_args": {"shape": [3, 16, 17, 1]}, "layout": None, "mixing": "none"}, ["'ntu25' has 25 joints"]),
        ({"model_args": {"num_class": 3, "num_person": 2}}, ["model_args.num_person is 2, but the data has 1"]),
        ({"model_args": {"num_class": 3, "in_channels": 2}}, ["model_args.in_channels is 2, but the data has 3"]),
        ({"test_feeder_args": {"shape": [3, 16, 25, 2]}}, ["(3, 16, 25, 1) in training", "(3, 16, 25, 2) in test"]),
        ({"model_args": {}}, ["model_args.num_class is missing"]),
        ({"layout": None}, ["layout is missing"]),
    ],
)
def test_config_against_data(own, capsys, changes, wanted):
    fails(capsys, own(**changes), "run.yaml", *wanted)


# --- networks and faults in the user's code --------------------------------------------------------------------------


def test_first_of_several_outputs(own, capsys, tmp_path):
    words = own(model="tests.own.Network", model_args={"num_class": 3})
    assert main.main(words) == 0
    assert capsys.readouterr().out.count("returns 2 values; the first, (N, K)") == 1
    words += ["--phase", "test", "--weights", str(tmp_path / "run" / "last.pt"), "--work_dir", str(tmp_path / "test")]
    assert main.main(words) == 0


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("classes", ["returned scores of 4 classes, but the data has 3"]),
        ("people", ["must return logits (N, K), (2, 3) for two samples; it returned (2, 1, 3)"]),
        ("dict", ["it returned dict"]),
        ("unpack", ["shape (2, 3, 16, 25, 1): ValueError: too many values", "own.py, line", "in Network.forward"]),
        ("constructor", ["TypeError: 'Linear' object is not subscriptable", "own.py, line", "in Network.__init__"]),
    ],
)
def test_network_that_does_not_fit(own, capsys, tmp_path, kind, wanted):
    log = [f"whole traceback is in {tmp_path / 'run' / 'log.txt'}"] if kind in ("unpack", "constructor") else []
    fails(capsys, own(model="tests.own.Network", model_args={"num_class": 3, "kind": kind}), *wanted, *log)
    assert ("Traceback" in (tmp_path / "run" / "log.txt").read_text()) or not log


def test_fault_in_a_dataset_is_placed(own, capsys, tmp_path):
    words = own(train_feeder_args={"fault": "raises"})
    fails(capsys, words, "sample 5", "own.py, line", f"traceback is in {tmp_path / 'run' / 'log.txt'}")
    fails(capsys, own(train_feeder_args={"size": "many"}), "TypeError", "own.py, line", "in Feeder.__init__")


def test_a_killed_loading_process(own, capsys):
    fails(
        capsys, own(feeder_args={"fault": "killed"}, num_worker=1), "a process that loads data was killed, perhaps",
        "DataLoader worker (pid", "fewer num_worker", "the same command continues",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "memory ran out (MemoryError): try a smaller batch_size"),
        (raised(lambda: np.zeros(2**50)), "memory ran out (Unable to allocate"),
        (raised(lambda: torch.zeros(2**50)), "can't allocate memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore"), "allocate 2 GiB): try"),
    ],
)
def test_out_of_memory(error, says):
    assert says in explained(error)
    assert "\n" not in explained(error)


def test_plugin_that_cannot_be_imported(own, capsys, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "broken_plugin.py").write_text("import numpy\n\nclass Feeder\n")
    (tmp_path / "failing_plugin.py").write_text("import numpy\n\nnumpy.array(3).nothing\n")
    words = own(feeder="broken_plugin.Feeder")
    fails(capsys, [*words, "--plugin", "broken_plugin"], "SyntaxError", "broken_plugin.py, line 3", "python -c")
    words = own(feeder="failing_plugin.Feeder")
    fails(capsys, [*words, "--plugin", "failing_plugin"], "AttributeError", "failing_plugin.py, line 3", "in <module>")
    words = own(feeder="absent_plugin.Feeder")
    fails(capsys, [*words, "--plugin", "absent_plugin"], "--plugin absent_plugin", "no package of this name")


def test_plugin_in_the_current_folder(own, tmp_path, monkeypatch):
    words = own(feeder="package_here.data.Feeder", model="tests.small.Model", model_args={"num_class": 3})
    (tmp_path / "package_here").mkdir()
    (tmp_path / "package_here" / "__init__.py").touch()
    (tmp_path / "package_here" / "data.py").write_text(
        "import tests.own\n\n\nclass Feeder(tests.own.Feeder):\n    pass\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    assert main.main([*words, "--plugin", "package_here"]) == 0


# --- overlap ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"test_feeder_args": None}, "12 of 12 (tests.own.Feeder has no argument split"),
        ({"test_feeder_args": {"size": 6}, "feeder_args": {"names": "a"}}, "6 of 6 (the same names and labels), such"),
        ({"test_feeder_args": {"size": 6, "names": "b"}}, "6 of 6 (equal data), such as b0, b1, b2"),
    ],
)
def test_test_samples_in_training(own, capsys, changes, wanted):
    wanted = f"test samples are in the training set too: {wanted}"
    fails(capsys, own(**changes), wanted, "overlap: warn", "test_feeder_args")
    words = own(**changes, model="tests.small.Model", model_args={"num_class": 3})
    assert main.main([*words, "--overlap", "warn"]) == 0
    assert wanted in capsys.readouterr().out


def test_stores_that_share_sequences(write_config, capsys):
    for args, wanted in (({"n_max": 8}, "48 of 48 (the same sequences"), ({"n_max": 7}, "(equal frames)")):
        words = ["--config", write_config(test_feeder_args={"split": "train", "imbalance": 4, **args})]
        fails(capsys, words, "samples are in the training set too", wanted)


def test_different_stores_are_not_read_as_a_whole(tmp_path):
    train, other = (Synthetic(n_max=n_max, imbalance=4, cache_dir=str(tmp_path)) for n_max in (7, 8))
    other.store.frames = np.array(other.store.frames) + 1
    assert overlap._equal_sequences(train, other) == ([], len(other))
    assert not train.store._checked.any()


def test_few_equal_contents_are_only_a_warning(own, caplog, monkeypatch):
    monkeypatch.setattr(overlap, "CHANCE", 0.2)
    monkeypatch.setattr(Feeder, "__init__", with_repetitions(Feeder.__init__))
    load_data(load_config(own()[1], plugins=["tests"]), CPU)
    assert "in the training set too: 1 of 12 (equal data), such as 2" in caplog.text


def with_repetitions(constructor):
    """Sample 2 is the same in all sets, and sample 3 is empty."""

    def repeating(self, **args):
        constructor(self, **args)
        self.x[2], self.x[3] = np.linspace(0, 1, self.x[2].size).reshape(self.x[2].shape), 0

    return repeating


@pytest.mark.parametrize(("number", "shorter"), [(10, 4), (1000, 1000), (1000, 30), (300, 299)])
def test_rows_that_are_compared(number, shorter):
    rows = overlap._spread(number, shorter)
    assert len(rows) == min(number, overlap.COMPARED)
    assert set(overlap._spread(shorter, shorter)) <= set(rows)


# --- tested without labels, or without the training data -----------------------------------------------------------


def test_samples_without_labels_get_predictions(own, capsys, tmp_path):
    """Label -1 is an unknown one; the others are counted. Only in a test: nobody trains without labels.

    Scores are divided by the checkpoint's temperature, as a run divides its own.
    """
    words = own(model="tests.small.Model", model_args={"num_class": 3})
    assert main.main(words) == 0
    state = load_checkpoint(tmp_path / "run" / "last.pt")
    save_checkpoint(tmp_path / "run" / "last.pt", state | {"card": state["card"] | {"temperature": 2.0}})
    tested = [*words, "--phase", "test", "--weights", str(tmp_path / "run" / "last.pt")]
    assert main.main([*tested, "--work_dir", str(tmp_path / "known")]) == 0
    unknown = [*tested, "--work_dir", str(tmp_path / "unknown"), "--set", "test_feeder_args.fault=negative"]
    capsys.readouterr()
    assert main.main(unknown) == 0
    assert "1 of 12 samples have no label (-1)" in capsys.readouterr().out
    header, *rows = csv.reader((tmp_path / "unknown" / "scores_test_last.csv").open())
    assert header[4:6] == ["label", "probability"]
    recorded, without = (read_scores(tmp_path / name / "scores_test_last.npz") for name in ("known", "unknown"))
    assert without.labels is None
    np.testing.assert_array_equal(without.scores, recorded.scores)
    assert [row[4] for row in rows] == [str(label) for label in recorded.scores.argmax(1)]
    own_scores = read_scores(tmp_path / "run" / "scores_test.npz").scores
    np.testing.assert_allclose(recorded.scores, own_scores / 2, rtol=1e-5)
    largest = softmax(recorded.scores, axis=1).max(1)
    np.testing.assert_allclose([float(row[5]) for row in rows], largest, atol=1e-6)
    other = own(train_feeder_args={"fault": "negative"}, model_args={"num_class": 3}, work_dir=str(tmp_path / "other"))
    fails(capsys, other, "has label -1")


def test_a_test_needs_no_training_data(own, tmp_path, monkeypatch):
    words = own(model="tests.small.Model", model_args={"num_class": 3})
    assert main.main(words) == 0
    keep = Feeder.__init__

    def only_test(self, split="train", **args):
        assert split == "test", "the training data is not here"
        keep(self, **args)

    monkeypatch.setattr(Feeder, "__init__", only_test)
    tested = [*words, "--phase", "test", "--weights", str(tmp_path / "run" / "last.pt")]
    assert main.main([*tested, "--work_dir", str(tmp_path / "again")]) == 0
    recorded, again = (read_scores(tmp_path / name) for name in ("run/scores_test.npz", "again/scores_test_last.npz"))
    np.testing.assert_allclose(again.scores, recorded.scores, atol=1e-6)
    assert again.class_counts == recorded.class_counts
