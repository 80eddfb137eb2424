"""What a checkpoint says of sequences equals what its run recorded of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

import main
from feeders.store import DataError
from processor import data as data_module
from processor.checkpoint import load_checkpoint, save_checkpoint
from processor.config_files import load_config
from processor.data import load_data
from processor.errors import CheckpointError
from processor.recognition import Recognizer, trained_network
from processor.run_folder import RunFolder
from processor.scores import read_scores
from tests.made_up import DESK, write_moving_parts

RUNS = {
    "3D": {},
    "stream": {"feeder_args": {"stream": "bone_motion"}, "average_weights": "ema"},
    "2D": {"feeder": "feeders.synthetic_pose.Feeder", "test_feeder_args": {"num_clips": 3, "num_test": 2}},
    "adjusted": {"loss": "cross_entropy", "mixing": "none", "post_hoc_tau": 1.0, "fit_temperature": True,
                 "val_feeder_args": {"num_test": 2}},
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of one of RUNS, trained once."""
    done: dict[str, RunFolder] = {}

    def trained(write_config, name: str) -> RunFolder:
        if name not in done:
            folder = tmp_path_factory.mktemp("run")
            assert main.main(["--config", write_config(**RUNS[name]), "--work_dir", str(folder)]) == 0
            done[name] = RunFolder(folder)
        return done[name]

    return trained


def test_set(folder: RunFolder):
    """Frames, ids and image sizes of the test split."""
    config = load_config(str(folder.config), {"device": "cpu"})
    feeder = load_data(config, torch.device("cpu"), ("train", "test")).feeders["test"]
    store = feeder.store
    sizes = [None] * len(feeder)
    if store.dims == 2:
        sizes = [(int(store.columns["height"][m]), int(store.columns["width"][m])) for m in feeder.members]
    return [np.array(store.sequence(int(member))) for member in feeder.members], feeder.ids, sizes


test_set.__test__ = False


@pytest.mark.parametrize("name", RUNS)
def test_equals_what_the_run_recorded(name, run, write_config):
    folder = run(write_config, name)
    recognizer = Recognizer.from_checkpoint(folder.path, device="cpu")
    recorded = read_scores(folder.scores())
    sequences, ids, sizes = test_set(folder)
    assert recorded.ids == ids
    samples = [recognizer.sample(*given) for given in zip(sequences, sizes, ids, strict=True)]
    found = recognizer.probabilities(samples)
    np.testing.assert_allclose(found, softmax(recorded.scores, axis=1), atol=1e-5)
    one = recognizer(sequences[3], sizes[3])
    assert one.label == recorded.names[int(recorded.scores[3].argmax())]
    np.testing.assert_allclose(one.probabilities, found[3], atol=1e-5)
    assert one.top(2)[0] == (one.label, one.probability)


@pytest.mark.parametrize("tau", [0.0, 1.0])
@pytest.mark.parametrize("name", ["3D", "2D"])
def test_explanations_add_up(name, tau, run, write_config):
    """The parts' values add up to the difference they make to the probability that is said, adjusted and divided."""
    folder = run(write_config, name)
    card, network = trained_network(folder.path)
    card = replace(card, config={**card.config, "post_hoc_tau": tau}, temperature=1.0 + tau)
    recognizer = Recognizer(card, network, torch.device("cpu"))
    sequences, _, sizes = test_set(folder)
    samples = [recognizer.sample(*given, str(n)) for n, given in enumerate(zip(sequences[:2], sizes, strict=False))]
    values = recognizer.shapley(samples, [2, 1])
    with torch.no_grad():
        without = recognizer.network(card.baseline[None]).softmax(1)  # the clips of a constant are alike
    counts = np.array(card.class_counts)
    prior = (counts / counts.sum()) ** tau
    said = recognizer.probabilities(samples)
    for place, label in enumerate((2, 1)):
        absent = (without[0].numpy() / prior) ** (1 / (1 + tau))
        assert values[place].sum() == pytest.approx(said[place, label] - absent[label] / absent.sum(), abs=1e-5)
    explained = recognizer(sequences[0], sizes[0], explain=True)
    assert dict(zip(explained.part_names, explained.parts, strict=True)).keys() == recognizer.layout.parts.keys()


def test_a_layout_of_ones_own(tmp_path, write_config):
    """The checkpoint is enough: config, layout and data are elsewhere."""
    write_moving_parts(tmp_path / "mine", DESK, n_max=8, imbalance=2)
    path = write_config(
        feeder="feeders.feeder_store.Feeder",
        feeder_args={"data_path": str(tmp_path / "mine"), "window_size": 16},
        train_feeder_args={},
        test_feeder_args={},
    )
    assert main.main(["--config", path, "--work_dir", str(tmp_path / "run")]) == 0
    folder = RunFolder(tmp_path / "run")
    sequences, ids, _ = test_set(folder)
    wanted = softmax(read_scores(folder.scores()).scores, axis=1)
    (tmp_path / "mine").rename(tmp_path / "gone")
    elsewhere = folder.last.rename(tmp_path / "weights.pt")
    recognizer = Recognizer.from_checkpoint(elsewhere, device="cpu")
    assert recognizer.layout == DESK
    assert recognizer.class_names == [f"move {part}" for part in DESK.parts]
    found = recognizer.probabilities([recognizer.sample(x, name=name) for x, name in zip(sequences, ids, strict=True)])
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_joints_that_were_not_seen(run, write_config):
    """Gaps are filled, also in a frame without a score; frames without anybody are passed over."""
    recognizer = Recognizer.from_checkpoint(run(write_config, "3D").path, device="cpu")
    frames = test_set(run(write_config, "3D"))[0][0]
    whole = recognizer(frames)
    frames[5:8, 0, 11] = np.nan
    assert abs(recognizer(frames).probabilities - whole.probabilities).max() < 0.05
    longer = np.insert(frames, [3, 3], np.nan, axis=0)
    np.testing.assert_allclose(recognizer(longer).probabilities, recognizer(frames).probabilities, atol=1e-6)
    np.testing.assert_array_equal(recognizer(frames[:, 0]).probabilities, recognizer(frames).probabilities)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda x: x[:1], "bob: too short: 1 frame"),
        (lambda x: x[:0], "bob: no people: in none of 0 frames"),
        (lambda x: x * np.nan, "bob: no people"),
        (lambda x: x[:, :, :17], "bob: other joints: 17, layout ntu25 has 25"),
        (lambda x: x[..., :2], r"bob has shape \(\d+, 1, 25, 2\), wanted .* 3\): x, y, z"),
        (lambda x: x[0, 0], r"bob has shape \(25, 3\)"),
        (lambda x: x * 1e8, "bob: values up to"),
        (lambda x: np.where(np.arange(25)[:, None] > 5, np.nan, x), "bob: too few joints seen: 76%"),
    ],
)
def test_bad_sequences(change, wanted, run, write_config):
    folder = run(write_config, "3D")
    frames = test_set(folder)[0][0]
    with pytest.raises(DataError, match=wanted):
        Recognizer.from_checkpoint(folder.path, device="cpu")(change(frames), name="bob")


def test_the_size_of_an_image_is_needed(run, write_config):
    folder = run(write_config, "2D")
    frames = test_set(folder)[0][0]
    with pytest.raises(DataError, match=r"bob: the size of its image .* --img_shape"):
        Recognizer.from_checkpoint(folder.path, device="cpu")(frames, name="bob")


def test_bad_checkpoints(run, write_config, tmp_path):
    folder = run(write_config, "3D")
    state = load_checkpoint(folder.last)
    save_checkpoint(tmp_path / "bare.pt", state["model"])
    with pytest.raises(CheckpointError, match=r"bare\.pt says nothing of its data and classes"):
        Recognizer.from_checkpoint(tmp_path / "bare.pt")
    save_checkpoint(tmp_path / "own.pt", state | {"card": state["card"] | {"view": None}})
    with pytest.raises(CheckpointError, match="alone makes its samples"):
        Recognizer.from_checkpoint(tmp_path / "own.pt", device="cpu")
    save_checkpoint(tmp_path / "next.pt", state | {"card": state["card"] | {"smell": 1}})
    with pytest.raises(CheckpointError, match=r"next\.pt has a card of another version"):
        Recognizer.from_checkpoint(tmp_path / "next.pt")
    save_checkpoint(tmp_path / "other.pt", state | {"config": state["config"] | {"model": "os.system"}})
    with pytest.raises(ValueError, match=r"os\.system"):
        Recognizer.from_checkpoint(tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="does not exist"):
        Recognizer.from_checkpoint(tmp_path / "nothing.pt")


@pytest.mark.parametrize("name", ["3D", "2D"])
def test_phase_test_without_the_training_data(name, run, write_config, tmp_path, monkeypatch, caplog):
    """The checkpoint knows classes, counts and shapes; the scores are those that the run recorded."""
    folder = run(write_config, name)
    opened = []

    def only_test(feeder_class, split):
        opened.append(split)
        assert split != "train"

    keep = data_module._feeder
    monkeypatch.setattr(data_module, "_feeder", lambda *words: only_test(*words[1:]) or keep(*words))
    words = ["--config", str(folder.config), "--phase", "test", "--weights", str(folder.last)]
    assert main.main([*words, "--work_dir", str(tmp_path / "again")]) == 0
    assert opened == ["test"]
    recorded, again = (read_scores(one.scores("test", which)) for one, which in
                       ((folder, None), (RunFolder(tmp_path / "again"), folder.last)))  # fmt: skip
    np.testing.assert_allclose(again.scores, recorded.scores, atol=1e-5)
    assert again.class_counts == recorded.class_counts
    assert "another view" not in caplog.text
    assert main.main([*words, "--set", "feeder_args.stream=bone", "--work_dir", str(tmp_path / "bone")]) == 0
    assert "trained with another view of the data: stream joint" in caplog.text


def test_another_unit_is_seen(run, write_config, caplog):
    """Millimetres instead of metres: said once. The view of 2D poses does not depend on the image's size."""
    folder = run(write_config, "3D")
    recognizer, frames = Recognizer.from_checkpoint(folder.path, device="cpu"), test_set(folder)[0][0]
    recognizer(frames, name="one")
    assert "times as large" not in caplog.text
    samples = [recognizer.sample(scale * frames, name=f"at {scale}") for scale in (1, 1000, 1)]
    recognizer.probabilities([*samples, *samples])
    recognizer(1000 * frames, name="three")
    (said,) = [line for line in caplog.messages if "times as large" in line]
    assert said.startswith("at 1000: the coordinates are"), "in a batch, the one that is of another size is named"
    assert float(said.split(" are ")[1].split()[0]) == pytest.approx(1000, rel=0.3)
