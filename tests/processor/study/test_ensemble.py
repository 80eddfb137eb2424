"""Score files and ensembles: joined by sample id, in any order, and nothing is chosen on what is reported."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import main
from processor.metrics import classification_metrics, table
from processor.run_folder import RunFolder
from processor.scores import ScoreFile, read_labels, read_scores
from processor.study.ensemble import default_weights, fuse, join, read_validation, search_weights
from tests.conftest import write_ucla
from tests.feeders.convert.test_pickles import Touch
from tools import ensemble

N, K = 60, 4
LABELS = np.arange(N) % K
NAMES = ["wave", "kick", "clap", "jump"]


def stream(seed: int, skill: float = 1.5, split: str = "test", **changes: object) -> ScoreFile:
    """Made-up scores: noise, and ``skill`` for the true class."""
    noise = np.random.default_rng([seed, len(split)]).normal(size=(N, K))
    scores = (noise + skill * np.eye(K)[LABELS]).astype(np.float32)
    ids = [f"{split}_{row}" for row in range(N)]
    file = ScoreFile(f"stream{seed}", ids, scores, LABELS, NAMES, [150, 50, 10, 10])
    return replace(file, **changes)  # type: ignore[arg-type]


def take(file: ScoreFile, rows: np.ndarray) -> ScoreFile:
    """Some rows of a file, in that order."""
    labels = None if file.labels is None else file.labels[rows]
    return replace(file, ids=[file.ids[row] for row in rows], scores=file.scores[rows], labels=labels)


def by_id(file: ScoreFile) -> dict[str, tuple]:
    assert file.labels is not None
    return {name: (*row, label) for name, row, label in zip(file.ids, file.scores.tolist(), file.labels, strict=True)}


def official(path: Path, file: ScoreFile, **changes: object) -> Path:
    path.write_bytes(pickle.dumps({**dict(zip(file.ids, file.scores, strict=True)), **changes}, 2))
    return path


def run_folder(path: Path, test: ScoreFile, val: ScoreFile | None = None) -> str:
    path.mkdir()
    test.write(path / "scores_test.npz")
    if val is not None:
        val.write(path / "scores_val.npz")
    return str(path)


def command(*words: object) -> int:
    return ensemble.main([str(word) for word in words])


# --- files -----------------------------------------------------------------------------------------------------------


def test_written_and_read(tmp_path):
    wanted = stream(0, many=90, few=15)
    wanted.write(tmp_path / "scores_test.npz")
    for path in (tmp_path, tmp_path / "scores_test.npz"):
        found = read_scores(path)
        assert found.source == str(tmp_path / "scores_test.npz")
        assert by_id(found) == by_id(wanted)
        assert found.scores.dtype == np.float32
        assert (found.class_names, found.class_counts, found.many, found.few) == (NAMES, [150, 50, 10, 10], 90, 15)
    assert found.groups == {"many": [0], "medium": [1], "few": [2, 3]}
    bare = ScoreFile("bare", ["a", "b"], np.eye(2))
    bare.write(tmp_path / "bare.npz")
    found = read_scores(tmp_path / "bare.npz")
    assert (found.labels, found.class_names, found.class_counts, found.groups) == (None, None, None, {})
    assert found.names == ["class 0", "class 1"]


def test_files_of_older_runs(tmp_path):
    file = stream(0)
    np.savez(tmp_path / "scores_test.npz", ids=file.ids, scores=file.scores, labels=LABELS, class_names=NAMES)
    found = read_scores(tmp_path)
    assert by_id(found) == by_id(file)
    assert (found.class_counts, found.many, found.few) == (None, 100, 20)


def test_official_scores(tmp_path):
    file = stream(0)
    found = read_scores(official(tmp_path / "best_score.pkl", file))
    assert found.ids == file.ids
    np.testing.assert_array_equal(found.scores, file.scores)
    assert (found.labels, found.class_names, found.class_counts) == (None, None, None)
    numbers = dict(zip(np.arange(N), file.scores, strict=True))  # what the official code writes for NW-UCLA
    (tmp_path / "ucla.pkl").write_bytes(pickle.dumps(numbers))
    assert read_scores(tmp_path / "ucla.pkl").ids[:2] == ["0", "1"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scores": None}, "has no scores"),
        ({"ids": None, "scores": None}, "has no ids and no scores"),
        ({"scores": np.zeros((N, K, 1))}, "scores is float64 of shape"),
        ({"scores": np.zeros((N - 1, K))}, "60 ids with scores of shape"),
        ({"scores": np.full((N, K), np.nan)}, "NaN or infinite scores of 60 samples: test_0, test_1, .*, test_4, ...;"),
        ({"scores": np.array([["a"] * K] * N)}, "scores is <U1"),
        ({"ids": np.arange(N)}, "ids is int64"),
        ({"ids": ["a"] * N}, "1 ids occur more than once: a;"),
        ({"ids": np.array(["a"] * N, dtype=object)}, "damaged .*Object arrays"),
        ({"labels": LABELS + 1}, r"sample test_3 has label 4, outside the classes 0\.\.3"),
        ({"labels": LABELS - 1}, "sample test_0 has label -1"),
        ({"labels": LABELS[1:]}, "labels of shape"),
        ({"labels": LABELS + 0.5}, "labels is float64"),
        ({"class_names": NAMES[:3]}, "3 class_names with scores in 4 classes"),
        ({"class_counts": [1] * 5}, "5 class_counts with scores in 4 classes"),
        ({"groups": [100]}, "groups has 1 thresholds"),
    ],
)
def test_wrong_files(tmp_path, changes, reason):
    file = stream(0)
    whole = {"ids": file.ids, "scores": file.scores, "labels": LABELS, "class_names": NAMES, **changes}
    np.savez(tmp_path / "wrong.npz", **{key: value for key, value in whole.items() if value is not None})
    with pytest.raises(ValueError, match=rf"wrong\.npz.*{reason}"):
        read_scores(tmp_path / "wrong.npz")


def test_damaged_files(tmp_path):
    path = tmp_path / "cut.npz"
    stream(0).write(path)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut.npz is not an .npz file, or is cut off"):
            read_scores(path)
    path.write_bytes(whole[:900] + b"damage" + whole[906:])
    with pytest.raises(ValueError, match=r"cut.npz is damaged .*; write or fetch it again"):
        read_scores(path)
    with pytest.raises(ValueError, match="does not exist; name a run's folder"):
        read_scores(tmp_path / "none.npz")
    with pytest.raises(
        ValueError, match=r"has no scores_test.npz, which a run writes .* official files best_score.pkl, epoch"
    ):
        read_scores(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "sample annotation_0 has no array of scores"),
        ([], "holds no scores"),
        ("text", "holds no scores"),
        ({}, "holds no scores"),
        ({"a": np.zeros(3), (1,): np.zeros(3)}, r"\(1,\) is not a sample name"),
        ({"a": np.zeros(3), "b": [0, 0, 0]}, "sample b has no array of scores"),
        ({"a": np.zeros(3), "b": np.array(["x"] * 3)}, "sample b has no array of scores"),
        ({"a": np.zeros(3), "b": np.zeros((3, 1))}, "sample b has no array of scores"),
        ({"a": np.zeros(3), "b": np.zeros(4)}, "sample b has 4 scores"),
        ({"a": np.zeros(3), "b": np.full(3, np.inf)}, "infinite scores of 1 samples: b;"),
        ({1: np.zeros(3), "1": np.zeros(3)}, "1 ids occur more than once: 1;"),
    ],
)
def test_wrong_official_files(tmp_path, content, reason):
    (tmp_path / "best_score.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=rf"best_score\.pkl.*{reason}"):
        read_scores(tmp_path / "best_score.pkl")


# --- fusing ----------------------------------------------------------------------------------------------------------


def test_weighted_sum_of_logits():
    files, weights = [stream(seed) for seed in range(4)], [0.6, 0.6, 0.6, 0.3]
    fused = fuse(files, weights)
    wanted = sum(weight * file.scores.astype(np.float64) for file, weight in zip(files, weights, strict=True))
    np.testing.assert_allclose(fused.scores, wanted, rtol=1e-15)
    assert fused.scores.dtype == np.float64
    assert (fused.ids, fused.class_names, fused.class_counts) == (files[0].ids, NAMES, [150, 50, 10, 10])
    np.testing.assert_array_equal(fused.labels, LABELS)
    assert default_weights(4) == weights
    assert default_weights(3) == [1, 1, 1]


@pytest.mark.parametrize("moved", range(3))
def test_the_order_of_rows_plays_no_part(moved):
    files = [stream(seed) for seed in range(3)]
    shuffled = list(files)
    shuffled[moved] = take(files[moved], np.random.default_rng(moved).permutation(N))
    assert shuffled[moved].ids != files[moved].ids
    weights = [0.7, 0.1, 0.3]
    assert fuse(shuffled, weights).ids == shuffled[0].ids
    assert by_id(fuse(shuffled, weights)) == by_id(fuse(files, weights)), "to the last bit"
    assert fuse(shuffled, weights).metrics() == fuse(files, weights).metrics()
    assert search_weights(shuffled) == search_weights(files)


@pytest.mark.parametrize("short", [0, 1])
def test_samples_that_one_file_lacks(short):
    files = [stream(0), stream(1)]
    files[short] = take(files[short], np.arange(7, N))
    wanted = f"stream{short} lacks 7 samples that stream{1 - short} has: test_0, test_1, test_2, test_3, test_4, ...;"
    with pytest.raises(ValueError, match=wanted):
        fuse(files, [1, 1])


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (stream(1, labels=np.where(np.arange(N) == 9, 3, LABELS)), "1 samples have another label .* test_9: 3 and 1;"),
        (
            stream(1, class_names=["wave", "kick", "sit", "jump"]),
            "1 classes have another name in stream1 than in stream0, such as 2: sit and clap;",
        ),
        (ScoreFile("stream1", stream(0).ids, np.zeros((N, 5))), "stream1 has 5 classes, stream0 has 4"),
    ],
)
def test_files_that_do_not_fit(other, reason):
    with pytest.raises(ValueError, match=reason):
        fuse([stream(0), other], [1, 1])


@pytest.mark.parametrize("weights", [[1], [1, 1, 1], [0, 0], [1, -1], [1, np.nan], [np.inf, 1]])
def test_wrong_weights(weights):
    with pytest.raises(ValueError, match="weights"):
        fuse([stream(0), stream(1)], weights)


def test_what_any_file_knows_holds_for_all(caplog):
    bare = ScoreFile("bare", stream(0).ids, stream(0).scores)
    first, _, third = join([bare, stream(1, many=90, few=15), stream(2, class_counts=[1, 2, 3, 4])])
    assert (first.source, first.class_names, third.class_counts) == ("bare", NAMES, [150, 50, 10, 10])
    assert (first.many, third.few) == (90, 15)
    np.testing.assert_array_equal(first.labels, LABELS)
    assert "groups are those of stream1" in caplog.text
    caplog.clear()
    join([bare, stream(1), stream(2)])
    assert not caplog.text


def test_labels_of_ntu_names():
    ids = [f"S001C001P001R{row + 1:03d}A{label + 1:03d}" for row, label in enumerate(LABELS)]
    bare = ScoreFile("bare", ids, stream(0).scores)
    np.testing.assert_array_equal(fuse([bare], [1]).labels, LABELS)
    with pytest.raises(ValueError, match="has label 59, outside"):
        fuse([replace(bare, ids=["S001C001P001R001A060", *ids[1:]])], [1])
    with pytest.raises(ValueError, match="none of the score files has labels, and S1A1 are no names of NTU or NW-UCLA"):
        fuse([replace(bare, ids=["S1A1", *ids[1:]])], [1])
    relabelled = fuse([replace(bare, labels=1 - LABELS % 2)], [1]).labels
    np.testing.assert_array_equal(relabelled, 1 - LABELS % 2, "names are only asked where no file has labels")


def test_labels_of_ucla_names():
    ids = [f"a{(1, 2, 3, 4)[label]:02d}_s{row:02d}_e00_v03" for row, label in enumerate(LABELS)]
    np.testing.assert_array_equal(fuse([ScoreFile("bare", ids, stream(0).scores)], [1]).labels, LABELS)


def test_official_folders_and_arguments(tmp_path, capsys, monkeypatch):
    """CTR-GCN's ensemble.py: folders by stream, --alpha, --dataset."""
    monkeypatch.chdir(tmp_path)
    files = {"joint": stream(0), "bone": stream(1), "joint_motion": stream(2), "bone_motion": stream(3)}
    for (name, file), score in zip(files.items(), ["best", "epoch1_test", "epoch61_test", "best"], strict=True):
        (tmp_path / name).mkdir()
        official(tmp_path / name / f"{score}_score.pkl", file)
    (tmp_path / "data" / "ntu120").mkdir(parents=True)
    np.savez(tmp_path / "data" / "ntu120" / "NTU120_CSub.npz", y_test=np.eye(K)[LABELS])
    words = [word for name in ("bone", "joint") for word in (f"--{name}-dir", name)]
    assert command("--dataset", "ntu120/xsub", *words, "--alpha", 0.5, "--json", "two.json") == 0
    report = json.loads((tmp_path / "two.json").read_text())
    assert [(one["file"], one["weight"]) for one in report["inputs"]] == [
        ("joint/best_score.pkl", 1.0),
        ("bone/epoch1_test_score.pkl", 0.5),
    ]
    expected = (files["joint"].scores + 0.5 * files["bone"].scores).argmax(1)
    assert report["ensemble"]["top1"] == pytest.approx((expected == LABELS).mean())
    words += ["--joint-motion-dir", "joint_motion", "--bone_motion_dir", "bone_motion"]
    assert command("--dataset", "ntu120/xsub", *words, "--json", "four.json") == 0
    assert [one["weight"] for one in json.loads((tmp_path / "four.json").read_text())["inputs"]] == default_weights(4)
    official(tmp_path / "bone" / "epoch2_test_score.pkl", stream(1))
    for given, reason in [
        ([], "name the runs"),
        (["joint", "--dataset", "ntu/xsub"], "give --labels FILE"),
        (["bone"], "bone has 2 score files: bone/epoch1_test_score.pkl, bone/epoch2_test_score.pkl; name one"),
        (["joint", "--alpha", 1, "--labels", "data/ntu120/NTU120_CSub.npz"], "2 weights for 1 score files"),
    ]:
        capsys.readouterr()
        assert command(*given) == 2
        assert reason in capsys.readouterr().err


def test_lists_of_scores_with_annotations(tmp_path, capsys):
    """PYSKL's result.pkl: rows in the order of the annotations of the tested split."""
    rows = np.random.default_rng(0).permutation(N)
    annotations = [{"frame_dir": f"v{row}", "label": int(LABELS[row])} for row in rows]
    annotations.insert(3, {"frame_dir": "other", "label": 0})
    splits = {"train": ["other"], "xsub_val": np.array([f"v{row}" for row in range(N)])}  # or a list
    (tmp_path / "ann.pkl").write_bytes(pickle.dumps({"split": splits, "annotations": annotations}))
    for name, file in (("j", stream(0)), ("b", stream(1))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.pkl").write_bytes(pickle.dumps(list(file.scores[rows])))
    words = [tmp_path / "j", tmp_path / "b", "--labels", tmp_path / "ann.pkl"]
    assert command(*words, "--split", "xsub_val", "--json", tmp_path / "out.json") == 0
    expected = (stream(0).scores + stream(1).scores).argmax(1)
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["ensemble"]["top1"] == pytest.approx((expected == LABELS).mean())
    for more, reason in [([], "has the splits train, xsub_val; name"), (["--split", "train"], "lacks 59 samples")]:
        capsys.readouterr()
        assert command(*words, *more) == 2
        assert reason in capsys.readouterr().err
    (tmp_path / "ann.pkl").write_bytes(pickle.dumps({"split": splits, "annotations": [{"label": 1}]}))
    assert command(*words) == 2
    assert "is not a pickle of annotations" in capsys.readouterr().err


def test_labels_of_a_file(tmp_path):
    bare = ScoreFile("bare", stream(0).ids, stream(0).scores)
    data, junk = tmp_path / "NTU60_CS.npz", np.array([{}], dtype=object)
    np.savez(data, x_test=junk, y_test=np.eye(K)[LABELS], x_train=junk)
    stream(1).write(tmp_path / "own.npz")
    run = run_folder(tmp_path / "run", take(stream(2), np.arange(N)[::-1]))
    for path in (data, tmp_path / "own.npz", Path(run)):
        np.testing.assert_array_equal(fuse([bare], [1], read_labels(path)).labels, LABELS)
    wrong = np.eye(K)[np.roll(LABELS, 1)]
    np.savez(data, y_test=wrong)
    with pytest.raises(ValueError, match=r"60 samples have another label in .*NTU60_CS.npz than in stream0"):
        fuse([stream(0)], [1], read_labels(data))
    np.savez(data, y_test=np.eye(K)[LABELS[1:]])
    with pytest.raises(ValueError, match=r"NTU60_CS.npz lacks 1 samples that bare has: test_59"):
        fuse([bare], [1], read_labels(data))
    for broken in (LABELS, np.ones((N, K)), np.zeros((N, K)), np.array([["a"]])):
        np.savez(data, y_test=broken)
        with pytest.raises(ValueError, match="is not one-hot"):
            read_labels(data)
    bare.write(tmp_path / "bare.npz")
    with pytest.raises(ValueError, match=r"bare.npz has no labels; name a run's score file"):
        read_labels(tmp_path / "bare.npz")


# --- choosing weights ------------------------------------------------------------------------------------------------


def test_search_drops_a_stream_of_noise():
    files = [stream(0, 2.0), stream(1, 0.0, scores=stream(1, 0.0).scores * 5), stream(2, 2.0)]
    weights = search_weights(files)
    assert weights[1] == 0
    assert all(step in np.arange(11) / 10 for step in weights)
    equal, found = (fuse(files, one).metrics()["top1"] for one in ([1, 1, 1], weights))
    assert found > equal + 0.1
    assert search_weights([files[1]]) != [0], "not all are 0"


def test_no_single_step_betters_the_found_weights():
    files = [stream(18, 0.5), stream(19, 1.0), stream(20, 0.8)]  # takes more than one round

    def quality(weights):
        fused = torch.from_numpy(fuse(files, weights).scores)
        right = int((fused.argmax(1).numpy() == LABELS).sum())
        return right, -F.cross_entropy(fused, torch.from_numpy(LABELS)).item()

    found = search_weights(files)
    right, reached = quality(found)
    for place in range(3):
        for step in range(11):
            weights = [*found[:place], step / 10, *found[place + 1 :]]
            if any(weights):
                assert quality(weights) <= (right, reached + 1e-12)
    assert quality(found) > quality([0.5, 0.5, 0.5])


def test_ties_go_to_the_lower_cross_entropy():
    file = stream(0)  # one file has the same top-1 with every weight
    scores, labels = torch.from_numpy(file.scores), torch.from_numpy(LABELS)
    losses = {step / 10: F.cross_entropy(scores * step / 10, labels).item() for step in range(1, 11)}
    assert search_weights([file]) == [min(losses, key=lambda weight: losses[weight])]
    sure = replace(file, scores=9 * np.eye(K)[LABELS])
    assert search_weights([sure]) == [1.0]


def test_search_gives_the_same_weights_in_any_order_even_where_rounding_decides():
    flat = replace(stream(1), scores=np.full((N, K), 0.3))  # its weight changes the cross-entropy by rounding alone
    rng = np.random.default_rng(0)
    orders = [rng.permutation(N) for _ in range(10)]
    found = [search_weights([take(stream(0), order), flat]) for order in orders]
    assert all(weights == found[0] for weights in found)


def test_search_never_sees_what_is_reported(tmp_path, capsys):
    good, bad = (0, 3.0), (1, 0.0)
    runs = [
        run_folder(tmp_path / "a", stream(*bad), stream(*good, "val")),
        run_folder(tmp_path / "b", stream(*good), stream(*bad, "val")),
    ]
    validation = [stream(*good, "val"), stream(*bad, "val")]
    assert command(*runs, "--search", "--json", tmp_path / "all.json") == 0
    report = json.loads((tmp_path / "all.json").read_text())
    assert report["weights"] == search_weights(validation)
    assert report["weights"][0] > report["weights"][1], "good on validation, whatever it is on the test set"
    assert report["ensemble"]["top1"] == fuse([stream(*bad), stream(*good)], report["weights"]).metrics()["top1"]
    assert "weights chosen on the validation scores" in capsys.readouterr().out


def test_search_errors(tmp_path, capsys):
    with_val = run_folder(tmp_path / "a", stream(0), stream(0, split="val"))
    without = run_folder(tmp_path / "b", stream(1))
    assert command(with_val, without, "--search") == 2
    assert "b has no scores_val.npz to search weights on; set val_subjects or val_fraction" in capsys.readouterr().err
    assert command(with_val, tmp_path / "b" / "scores_test.npz", "--search") == 2
    assert "scores_test.npz is not a run's folder" in capsys.readouterr().err
    stream(1, ids=[*stream(1, split="val").ids[1:], "test_7"]).write(tmp_path / "b" / "scores_val.npz")
    assert command(with_val, without, "--search") == 2
    assert "1 samples are in the validation and in the test scores: test_7;" in capsys.readouterr().err
    with pytest.raises(ValueError, match="60 samples are in the validation and in the test scores"):
        read_validation([Path(with_val)], [stream(5, split="val")])


# --- the command -----------------------------------------------------------------------------------------------------


def test_command(tmp_path, capsys):
    runs = [run_folder(tmp_path / f"run{seed}", take(stream(seed), np.roll(np.arange(N), seed))) for seed in range(3)]
    runs.append(str(official(tmp_path / "best_score.pkl", stream(3))))
    out, report = tmp_path / "new" / "fused.npz", tmp_path / "fused.json"
    assert command(*runs, "--out", out, "--json", report) == 0
    fused = fuse([stream(seed) for seed in range(4)], [0.6, 0.6, 0.6, 0.3])
    assert by_id(read_scores(out)) == by_id(fused)
    content = json.loads(report.read_text())
    assert content["weights"] == [0.6, 0.6, 0.6, 0.3]
    assert content["ensemble"] == json.loads(json.dumps(fused.metrics()))
    assert content["inputs"][3]["top1"] == classification_metrics(stream(3).scores, LABELS, {})["top1"]
    text = capsys.readouterr().out
    assert "60 samples, weights by default" in text
    own = content["inputs"][3]
    wanted = f"weight 0.3  top-1 {100 * own['top1']:5.1f} %  mean class {100 * own['mean_class_accuracy']:5.1f} %"
    assert [line.endswith(wanted) for line in text.splitlines()].count(True) == 1
    for line in (
        f"overall (top-1)            {100 * fused.metrics()['top1']:5.1f} %",
        "many shot",
        "(2 classes)",
        "clap",
    ):
        assert line in text

    # the ensemble is itself a score file
    assert command(out, "--weights", 2) == 0
    assert f"weight 2  top-1 {100 * fused.metrics()['top1']:5.1f} %" in capsys.readouterr().out


def test_command_without_training_counts(tmp_path, capsys):
    np.savez(tmp_path / "data.npz", y_test=np.eye(K)[LABELS])
    scores = official(tmp_path / "best_score.pkl", stream(0))
    assert command(scores, scores, "--labels", tmp_path / "data.npz") == 0
    text = capsys.readouterr().out
    assert "class 3" in text
    assert "shot" not in text


def test_command_errors(tmp_path, capsys):
    run = run_folder(tmp_path / "run", stream(0))
    marker = tmp_path / "marker"
    wicked = official(tmp_path / "best_score.pkl", stream(0), x=Touch(marker))
    for words, reason in [
        ([run, tmp_path / "none.npz"], "none.npz does not exist"),
        ([run, wicked], "best_score.pkl asks for posix.system"),
        ([run, "--weights", 1, 2], "2 weights for 1 score files"),
        ([run, run, "--weights", 0, 0], "not all of them 0"),
        ([run, "--labels", tmp_path / "none.npz"], "none.npz does not exist"),
        ([official(tmp_path / "scores.pkl", stream(0))], "give --labels FILE"),
        ([run, "--out", f"{run}/scores_test.npz/x.npz"], "scores_test.npz"),
    ]:
        assert command(*words) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert reason in error
    assert not marker.exists()
    with pytest.raises(SystemExit) as stop:
        command(run, "--weights", 1, "--search")
    assert stop.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


# --- what a run writes -----------------------------------------------------------------------------------------------


def test_a_run_writes_both_splits(write_config, tmp_path, capsys):
    more = {f"a{a:02d}_s02_e00_v0{v}": {"skeletons": [[[a, v, 2]] * 20] * 5} for a in (1, 2) for v in (1, 2)}
    folder = write_ucla(tmp_path / "all_sqe", **more)
    path = write_config(
        feeder="feeders.feeder_ucla.Feeder",
        feeder_args={"data_path": str(folder), "window_size": 16, "val_subjects": [2]},
        train_feeder_args={},
        test_feeder_args={},
        val_feeder_args={"split": "val"},
        groups={"many": 50, "few": 2},
    )
    assert main.main(["--config", path]) == 0
    run = tmp_path / "run"
    test, val = read_scores(run), read_scores(run, "val")
    assert val.ids == sorted(more)
    assert val.labels is not None
    assert val.labels.tolist() == [0, 0, 1, 1]
    assert len(test.ids) == 10
    assert test.class_counts == val.class_counts == [2] * 10
    assert (val.many, val.few) == (50, 2)
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert val.metrics()["top1"] == last["val_top1"]
    assert test.metrics()["top1"] == last["top1"]
    assert command(run, "--search") == 0
    RunFolder(run).clear()
    assert not list(run.glob("scores_*.npz"))


def test_table_fits_names_and_copes_without_counts():
    names = ["wave", "put something inside pocket", "x" * 50]
    metrics = classification_metrics(np.eye(3), np.arange(3), {})
    lines = table(metrics, names, None, {}).splitlines()
    assert lines[-2] == f"{names[1]:<40} 100.0 %  -"
    assert lines[-1] == f"{'x' * 40} 100.0 %  -"
    assert lines[0] == f"{'overall (top-1)':<40} 100.0 %"
    lines = table(metrics, [*names[:2], "jump"], [1, 2, 3], {}).splitlines()
    assert lines[-1] == f"{'jump':<27} 100.0 %  3"
    assert table(metrics, ["a", "b", "c"], [1, 2, 3], {}).splitlines()[-1] == f"{'c':<26} 100.0 %  3"
