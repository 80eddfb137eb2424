"""The table of runs: its metrics by hand, what it refuses to put side by side, and its formats."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.image import imread

from processor.scores import ScoreFile, read_scores
from processor.study.statistics import class_weights, compare
from tests.conftest import ROOT
from tools import table

LABELS = np.array([0] * 10 + [1] * 6 + [2] * 4)
NAMES = ["wave", "put_on 50%", "a|b"]
COUNTS = [150, 50, 10]
IDS = [f"test_{row}" for row in range(20)]


def answers(*right: int) -> np.ndarray:
    """Logits (20, 3) of a network that is right, with confidence 0.9, on so many samples of each class."""
    guess = np.array(
        [(label + (place >= right[label])) % 3 for label in range(3) for place in range([10, 6, 4][label])]
    )
    return np.log(np.full((20, 3), 0.05) + 0.85 * np.eye(3)[guess])


def write_run(folder: Path, seed: int, scores: np.ndarray | None, order: np.ndarray | None = None, **changes) -> Path:
    """A run's folder; ``changes`` are of the score file, those of the config are in ``settings``."""
    folder.mkdir(parents=True)
    settings = {"feeder": "feeders.synthetic.Feeder", "seed": seed, "work_dir": str(folder), "loss": "cross_entropy"}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings | changes.pop("settings", {})))
    if scores is not None:
        rows = np.arange(20) if order is None else order
        facts = {"labels": LABELS, "class_names": NAMES, "class_counts": COUNTS} | changes
        facts["labels"], ids = facts["labels"][rows], facts.pop("ids", IDS)
        ScoreFile("x", [ids[row] for row in rows], scores[rows], **facts).write(folder / "scores_test.npz")
    return folder


def two_methods(root: Path) -> Path:
    """Method a with seeds 1 and 2 in another order, b with seeds 1 and 2."""
    backwards = np.arange(20)[::-1]
    write_run(root / "a" / "seed_1", 1, answers(9, 5, 4))
    write_run(root / "a" / "seed_2", 2, answers(10, 6, 4), order=backwards)
    write_run(root / "b" / "seed_1", 1, answers(4, 1, 0))
    write_run(root / "b" / "seed_2", 2, answers(5, 1, 0))
    return root


def command(*words: object) -> int:
    return table.main([str(word) for word in words])


def rows(text: str) -> dict[str, dict[str, str]]:
    """Method or class -> its line, of CSV."""
    return {line[next(iter(line))]: line for line in csv.DictReader(text.splitlines())}


def cells(text: str) -> dict[str, list[str]]:
    """First cell -> the others, of Markdown."""
    lines = [line.replace(r"\|", "/").strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}


def test_metrics_by_hand(tmp_path, capsys):
    assert command(two_methods(tmp_path)) == 0
    text = capsys.readouterr().out
    assert text.startswith("20 test samples, 3 classes; last epoch; in %")
    assert "many shot: over 100 training samples, few shot: under 20\n" in text
    found = cells(text)
    assert found["method"] == [
        "seeds", "overall (top-1)", "mean class (balanced accuracy)", "many shot", "medium shot", "few shot", "ECE",
    ]  # fmt: skip
    # top-1 90 and 100: sd 7.07, and t(1) = 12.706 gives 95 +- 63.5
    assert found["a"][:2] == ["2", "95.0 ± 7.1 [31.5, 158.5]"]
    assert found["a"][4:] == ["91.7 ± 11.8 [-14.2, 197.6]", "100.0 ± 0.0 [100.0, 100.0]", "5.0 ± 7.1"]
    assert found["b"][1] == "27.5 ± 3.5 [-4.3, 59.3]"
    assert found["b"][3] == "45.0 ± 7.1 [-18.5, 108.5]"

    assert command(tmp_path, "--format", "csv") == 0
    line = rows(capsys.readouterr().out)["a"]
    assert line["seeds"] == "2"
    assert line["figures_of"] == "last epoch"
    mean_class = [(0.9 + 5 / 6 + 1) / 3, 1]
    assert float(line["mean_class_accuracy_mean_percent"]) == pytest.approx(100 * np.mean(mean_class))
    assert float(line["mean_class_accuracy_sd_percent"]) == pytest.approx(100 * np.std(mean_class, ddof=1))
    assert float(line["ece_mean_percent"]) == pytest.approx(5)  # 0.9 of 0.9, and 1 of 0.9
    assert "top1_difference_points" not in line


def test_difference_from_the_baseline(tmp_path, capsys):
    root = two_methods(tmp_path)
    write_run(root / "c" / "seed_2", 2, answers(5, 2, 0))
    write_run(root / "d" / "seed_7", 7, answers(10, 6, 4))
    assert command(root, "--baseline", "b", "--format", "csv") == 0
    found = rows(capsys.readouterr().out)
    ours, theirs = (
        np.stack([answers(*one).argmax(1) == LABELS for one in method])
        for method in ([(9, 5, 4), (10, 6, 4)], [(4, 1, 0), (5, 1, 0)])
    )
    wanted = compare(ours, theirs, LABELS, class_weights(LABELS)).mean()
    assert float(found["a"]["top1_difference_points"]) == pytest.approx(67.5)
    for name, value in (("points", wanted.value), ("low_points", wanted.low), ("high_points", wanted.high)):
        assert float(found["a"][f"mean_class_accuracy_difference_{name}"]) == pytest.approx(100 * value)
    assert (found["a"]["top1_difference_verdict"], found["a"]["top1_difference_seeds"]) == ("better", "2")
    assert (found["c"]["top1_difference_verdict"], found["c"]["top1_difference_seeds"]) == (
        "one seed: samples only",
        "1",
    )
    assert found["b"]["top1_difference_points"] == found["d"]["top1_difference_points"] == ""

    assert command(root, "--baseline", "a") == 0
    text = capsys.readouterr().out
    assert "difference from a in points" in text
    found = cells(text)
    assert found["method"][-2:] == ["overall (top-1), difference", "mean class (balanced accuracy), difference"]
    assert found["a"][-2:] == ["baseline", "baseline"]
    assert found["d"][-2:] == ["no seed in common"] * 2
    assert found["b"][-2].startswith("-67.5 [")
    assert found["b"][-2].endswith("] worse")
    assert found["c"][-2].endswith("] one seed: samples only")
    assert found["c"][1] == "35.0"  # one seed has no deviation

    for seed in (3, 4):
        write_run(root / "b" / f"seed_{seed}", seed, answers(5, 1, 0))
    write_run(root / "a" / "seed_3", 3, answers(9, 5, 4))
    assert command(root, "--baseline", "b", "--compare", "few", "top1", "many") == 0
    found = cells(capsys.readouterr().out)
    assert found["a"][-1].endswith("better (3 seeds)"), "of the baseline's four"
    assert found["method"][-3:] == [f"{name}, difference" for name in ("few shot", "overall (top-1)", "many shot")]
    assert [cell.split()[0] for cell in found["a"][-3:]] == ["+100.0", "+65.0", "+46.7"]


def test_names_of_methods(tmp_path, capsys):
    two_methods(tmp_path / "x")
    write_run(tmp_path / "y" / "a" / "seed_1", 1, answers(1, 1, 1))
    write_run(tmp_path / "y" / "a" / "wide", 1, answers(2, 2, 2))
    write_run(tmp_path / "y" / "alone", 1, answers(2, 2, 2))
    for paths, names in (
        ([tmp_path], ["x/a", "x/b", "y/a", "y/a/wide", "y/alone"]),
        ([tmp_path / "y"], ["a", "a/wide", "alone"]),
        ([tmp_path / "x" / "b", tmp_path / "x" / "a", tmp_path / "x"], ["b", "a"]),
        ([tmp_path / "x" / "a"], ["a"]),
        ([tmp_path / "x" / "a" / "seed_2"], ["a"]),
        ([tmp_path / "y" / "alone"], ["alone"]),
    ):
        assert command(*paths, "--format", "csv") == 0
        assert list(rows(capsys.readouterr().out)) == names


def test_unfinished_runs_are_left_out(tmp_path, capsys):
    write_run(tmp_path / "a" / "seed_1", 1, answers(9, 5, 4))
    unfinished = write_run(tmp_path / "a" / "seed_2", 2, None)
    assert command(tmp_path) == 0
    out, error = capsys.readouterr()
    assert cells(out)["a"][0] == "1"
    assert "left out, without scores_test.npz" in error
    assert str(unfinished) in error
    assert command(unfinished) == 2
    assert "error: none of the runs has scores_test.npz" in capsys.readouterr().err


def test_validation_split(tmp_path, capsys):
    for seed, right in ((1, (9, 5, 4)), (2, (10, 6, 4))):
        run = write_run(tmp_path / "a" / f"seed_{seed}", seed, answers(*right))
        (run / "scores_test.npz").rename(run / "scores_val.npz")
    write_run(tmp_path / "b" / "seed_1", 1, answers(1, 1, 1))
    assert command(tmp_path, "--split", "val") == 0
    text, error = capsys.readouterr()
    assert text.startswith("20 validation samples")
    assert cells(text)["a"][1].startswith("95.0")
    assert "b" not in cells(text)
    assert "left out, without scores_val.npz" in error
    assert command(tmp_path / "b", "--split", "val") == 2
    assert "need val_subjects or val_fraction" in capsys.readouterr().err
    assert command(tmp_path, "--split", "val", "--best-test-epoch") == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ids": [f"other_{row}" for row in range(20)]}, "lacks 20 samples"),
        ({"labels": (LABELS + 1) % 3}, "20 samples have another label"),
        (
            {"class_names": ["wave", "put_on", "jump"]},
            "such as 1: put_on and put_on 50%; these are scores of different data",
        ),
        ({"class_counts": [15, 5, 1]}, "has other training counts than"),
        ({"few": 5}, "has other groups (many, few) than"),
        ({"scores": np.eye(4)[LABELS], "class_counts": None, "class_names": None}, "has other training counts"),
    ],
)
def test_other_experiments_are_refused(tmp_path, capsys, changes, reason):
    write_run(tmp_path / "a", 1, answers(9, 5, 4))
    write_run(tmp_path / "b", 1, **{"scores": answers(9, 5, 4)} | changes)
    assert command(tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert reason in error
    assert str(tmp_path / "a" / "scores_test.npz") in error
    assert str(tmp_path / "b" / "scores_test.npz") in error


def test_other_class_counts_are_refused(tmp_path, capsys):
    write_run(tmp_path / "a", 1, answers(9, 5, 4), class_counts=None, class_names=None)
    write_run(tmp_path / "b", 1, np.eye(4)[LABELS], class_counts=None, class_names=None)
    assert command(tmp_path) == 2
    assert "b/scores_test.npz has 4 classes" in capsys.readouterr().err


def test_runs_of_one_method_agree(tmp_path, capsys):
    for seed in (1, 2):
        own = {"weights": f"{seed}.pt", "device": ["cpu", "cuda"][seed - 1]}
        write_run(
            tmp_path / "a" / f"seed_{seed}", seed, answers(9, 5, 4), settings=own | ({"tau": 1.0} if seed == 1 else {})
        )
    assert command(tmp_path) == 0, "weights and device may differ, and a key that is missing has its default"
    capsys.readouterr()
    write_run(tmp_path / "a" / "seed_3", 3, answers(9, 5, 4), settings={"tau": 0.5, "loss": "logit_adjustment"})
    assert command(tmp_path) == 2
    error = capsys.readouterr().err
    assert "they differ in loss, tau;" in error
    assert "seed_1" in error
    assert "seed_3" in error

    write_run(tmp_path / "b" / "seed_1", 4, answers(9, 5, 4))
    write_run(tmp_path / "b" / "seed_2", 4, answers(9, 5, 4))
    assert command(tmp_path / "b") == 2
    assert "have the same seed, 4" in capsys.readouterr().err


def test_best_test_epoch(tmp_path, capsys):
    run = write_run(tmp_path / "a" / "seed_1", 1, answers(9, 5, 4), settings={"num_epoch": 4})
    lines = [
        {"epoch": 0, "top1": 0.1, "mean_class_accuracy": 0.9, "many": 0.9, "medium": None, "few": 0.1, "ece": 0.1},
        {"epoch": 1, "top1": 0.5, "mean_class_accuracy": 0.4, "many": 0.9, "medium": None, "few": 0.1, "ece": 0.2},
        {"epoch": 2, "top1": 0.5, "mean_class_accuracy": 0.7, "many": 0.9, "medium": None, "few": 0.1, "ece": 0.3},
        {"epoch": 3, "top1": 0.3, "mean_class_accuracy": 0.8, "many": 0.9, "medium": None, "few": 0.1, "ece": 0.3},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert command(tmp_path, "--best-test-epoch") == 0
    text = capsys.readouterr().out
    assert "best_test_epoch (published protocol)" in text
    assert cells(text)["method"] == [
        "seeds",
        "overall (top-1)",
        "mean class (balanced accuracy)",
        "many shot",
        "few shot",
        "ECE",
    ]
    assert cells(text)["a"] == ["1", "50.0", "40.0", "90.0", "10.0", "20.0"]
    lines[0] = {"epoch": 0, "lr": 0.1}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert command(tmp_path, "--best-test-epoch") == 0
    text = capsys.readouterr().out
    assert "best evaluated epoch on the test split" in text
    assert "best_test_epoch" not in text, "epoch 0 was not evaluated"
    (run / "metrics.jsonl").write_text(json.dumps({"epoch": 3, "top1": 0.5}))  # of an older run, without the rest
    assert command(tmp_path, "--best-test-epoch") == 0
    assert cells(capsys.readouterr().out)["method"] == ["seeds", "overall (top-1)"]
    other = write_run(tmp_path / "a" / "seed_2", 2, answers(9, 5, 4), settings={"num_epoch": 4})
    (other / "metrics.jsonl").write_text(json.dumps(lines[1] | {"epoch": 3}))
    assert command(tmp_path, "--best-test-epoch") == 0
    assert cells(capsys.readouterr().out)["method"] == ["seeds", "overall (top-1)"], "not the metrics of one seed"
    (other / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[:3]) + '{"epoch": 3, "to')
    capsys.readouterr()
    assert command(tmp_path, "--best-test-epoch") == 2, "the best of what is left is not the best"
    assert "ends with epoch 2 of 4 and has 1 damaged lines" in capsys.readouterr().err
    assert command(tmp_path, "--best-test-epoch", "--baseline", "a") == 2
    assert "--baseline needs the scores of each sample" in capsys.readouterr().err
    (run / "metrics.jsonl").unlink()
    assert command(tmp_path, "--best-test-epoch") == 2
    assert "no evaluated epoch" in capsys.readouterr().err


def test_classes_by_training_count(tmp_path, capsys):
    root = two_methods(tmp_path / "runs")
    counts = [50, 150, 10]  # the order is another one than that of the classes
    for path in root.rglob("scores_test.npz"):
        with np.load(path) as arrays:
            content = dict(arrays)
        np.savez(path, **content | {"class_counts": counts})
    assert command(root, "--group-by", "count", "--plot", tmp_path / "new" / "plot.png") == 0
    text = capsys.readouterr().out.split("\n\n")[2]
    found = cells(text)
    assert list(found)[2:] == ["put_on 50%", "wave", "a/b"]
    assert found["class"] == ["training samples", "a", "b"]
    assert found["wave"] == ["50", "95.0 ± 7.1", "45.0 ± 7.1"]
    assert found["a/b"] == ["10", "100.0 ± 0.0", "0.0 ± 0.0"]
    assert command(root, "--group-by", "count", "--format", "csv") == 0
    found = rows(capsys.readouterr().out)
    assert float(found["wave"]["a mean_percent"]) == pytest.approx(95)
    assert float(found["wave"]["b sd_percent"]) == pytest.approx(100 * np.std([0.4, 0.5], ddof=1))
    picture = imread(tmp_path / "new" / "plot.png")
    assert picture.shape[0] > 300
    assert picture.std() > 0.05


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG\r\n"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_kinds_of_plots(tmp_path, suffix, start):
    root, plot = two_methods(tmp_path / "runs"), tmp_path / f"plot{suffix}"
    assert command(root, "--group-by", "count", "--plot", plot, "--out", tmp_path / "table.md") == 0
    assert plot.read_bytes().startswith(start)


def test_plot_has_one_point_for_classes_of_one_count(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    plotted = []
    original = Axes.errorbar
    monkeypatch.setattr(Axes, "errorbar", lambda *args, **more: plotted.append(args[1:]) or original(*args, **more))
    for seed, right in ((1, (10, 3, 2)), (2, (10, 6, 3))):
        write_run(tmp_path / "a" / f"seed_{seed}", seed, answers(*right), class_counts=[30, 7, 7])
    assert command(tmp_path, "--group-by", "count", "--plot", tmp_path / "plot.png", "--out", tmp_path / "t") == 0
    ((places, means, deviations),) = plotted
    assert places.tolist() == [7, 30]
    assert means == pytest.approx([100 * (0.5 + 0.875) / 2, 100])
    assert deviations == pytest.approx([100 * np.std([0.5, 0.875], ddof=1), 0])


# --- archives --------------------------------------------------------------------------------------------------------


def pack(folder: Path, archive: Path, names: dict[str, str] | None = None) -> Path:
    """The files of a folder in a .zip archive, some under another name."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as members:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = file.relative_to(folder).as_posix()
            members.writestr((names or {}).get(name, name), file.read_bytes())
    return archive


def test_scores_of_another_run(tmp_path, capsys):
    run = write_run(tmp_path / "a" / "seed_1", 1, answers(9, 5, 4))
    (run / "metrics.jsonl").write_text(json.dumps({"epoch": 3, "top1": 0.9}))
    assert command(tmp_path) == 0
    (run / "scores_test.npz").write_bytes(
        (write_run(tmp_path / "b", 1, answers(4, 1, 0)) / "scores_test.npz").read_bytes()
    )
    assert command(tmp_path / "a") == 2
    assert "scores_test.npz has a top-1 of 25.00 %, but" in capsys.readouterr().err


def test_an_archive_is_read_as_its_folder(tmp_path, capsys):
    root = two_methods(tmp_path / "runs")
    for run in root.rglob("seed_*"):
        last = read_scores(run / "scores_test.npz").metrics()["top1"]
        lines = [{"epoch": n, "top1": top1, "mean_class_accuracy": 0.25} for n, top1 in enumerate((0.3, last))]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        with open(run / "config.yaml", "a") as file:
            file.write("num_epoch: 2\n")
    unfinished = write_run(root / "c" / "seed_1", 1, None)
    archive = pack(root, tmp_path / "runs.zip")
    with zipfile.ZipFile(archive, "a") as members:
        members.mkdir("empty")
    for inside, words in (
        ("", ["--baseline", "b"]),
        ("", ["--group-by", "count"]),
        ("", ["--best-test-epoch"]),
        ("b", ["--format", "csv"]),
        ("a/seed_2", []),
    ):
        assert command(root / inside, *words) == 0
        wanted, told = capsys.readouterr()
        assert command(archive / inside, *words) == 0
        assert capsys.readouterr() == (wanted, told.replace(str(unfinished), str(archive / "c" / "seed_1")))
    assert command(archive / "a", root / "b", "--baseline", "runs/b") == 0, "beside a folder"
    assert list(cells(capsys.readouterr().out))[2:] == ["runs.zip/a", "runs/b"]
    for inside in ("nowhere", "empty", "a/seed_1/config.yaml", "../runs.zip/nowhere"):
        assert command(archive / inside) == 2
        assert f"{inside} holds no run" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "runs.zip"], "nothing is unpacked"


def test_an_archive_of_a_table(tmp_path, capsys):
    """It gives the same table; scores are rounded, but not where that would change a prediction; no time is in it."""
    root = two_methods(tmp_path / "runs")
    close = root / "b" / "seed_2" / "scores_test.npz"
    with np.load(close) as arrays:
        content = dict(arrays)
    scores = content["scores"] = content["scores"].astype(np.float64)
    scores[scores.argmax(1) > 0, 0] = scores.max() - 1e-6
    np.savez(close, **content)
    archive, again = tmp_path / "new" / "runs.zip", tmp_path / "again.zip"
    assert command(root, "--baseline", "b", "--archive", archive) == 0
    wanted = capsys.readouterr().out
    assert command(archive, "--baseline", "b", "--archive", again) == 0
    assert capsys.readouterr().out == wanted
    assert again.read_bytes() == archive.read_bytes()
    with zipfile.ZipFile(archive) as members:
        names = set(members.namelist())
        kinds = {
            name: np.load(io.BytesIO(members.read(name)))["scores"].dtype for name in names if name.endswith(".npz")
        }
    assert {name.rpartition("/")[2] for name in names} <= {"config.yaml", "metrics.jsonl", "scores_test.npz"}
    assert kinds.pop("b/seed_2/scores_test.npz") == np.float64
    assert set(kinds.values()) == {np.dtype(np.float16)}
    assert command(root, "--methods", "a", "--archive", again) == 0
    capsys.readouterr()
    assert command(again) == 0
    assert "| b " not in capsys.readouterr().out
    two = two_methods(tmp_path / "two")
    assert command(root, two, "--pool", "--baseline", "b", "--archive", again) == 0
    wanted = capsys.readouterr().out
    assert command(again / "runs", again / "two", "--pool", "--baseline", "b") == 0
    assert capsys.readouterr().out == wanted


def flipped(content: bytes) -> bytes:
    """With the bits of a byte turned over, in the first member's data."""
    return content[:60] + bytes([content[60] ^ 255]) + content[61:]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: b"no archive", "is not a .zip archive, or is damaged"),
        (lambda content: b"", "is not a .zip archive, or is damaged"),
        (lambda content: content[: len(content) // 2], "is not a .zip archive, or is damaged"),
        (lambda content: content[:-1] + content[100:], "damaged"),
        (flipped, "damaged"),
    ],
)
def test_a_damaged_archive_is_named(tmp_path, capsys, damage, reason):
    archive = pack(two_methods(tmp_path / "runs"), tmp_path / "runs.zip")
    archive.write_bytes(damage(archive.read_bytes()))
    assert command(archive / "a") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {archive} is ")
    assert reason in error
    assert error.count("\n") == 1


def test_a_damaged_file_in_an_archive_is_named(tmp_path, capsys):
    root = two_methods(tmp_path / "runs")
    (root / "a" / "seed_1" / "scores_test.npz").write_bytes(b"no scores")
    archive = pack(root, tmp_path / "runs.zip")
    assert command(archive) == 2
    assert f"error: {archive / 'a' / 'seed_1' / 'scores_test.npz'} is not an .npz file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../config.yaml", "/config.yaml", "a/../../config.yaml", r"a\..\config.yaml", "a//b"])
def test_members_outside_an_archive_are_refused(tmp_path, capsys, name):
    archive = pack(two_methods(tmp_path / "runs"), tmp_path / "runs.zip", {"a/seed_1/config.yaml": name})
    assert command(archive) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {archive} has a member ")
    assert "leads out of the archive" in error


def test_the_tables_of_the_results_page_are_what_the_commands_print(tmp_path, monkeypatch, capsys):
    """Each number with a deviation or an interval, in the tables below a command that reads docs/runs."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "runs").symlink_to(ROOT / "docs" / "runs")
    monkeypatch.chdir(tmp_path)  # where a plot goes
    checked = 0
    _, *parts = re.split(r"^```\n", (ROOT / "docs" / "results.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for commands, text in zip(parts[::2], parts[1::2], strict=True):
        lines = [line.split() for line in commands.splitlines() if line.startswith("python -m tools.table docs/runs/")]
        for words in lines:
            assert command(*words[3:]) == 0
        printed = capsys.readouterr().out
        tables = "\n".join(line for line in text.splitlines() if line.startswith("|"))
        for number in re.findall(r"[\d.]+ ± [\d.]+|[+-][\d.]+ \[[^]]+\]", tables) if lines else []:
            assert number in printed
            checked += 1
    assert checked > 80


def test_latex_and_markdown_escape(tmp_path, capsys):
    root = two_methods(tmp_path)
    (root / "a").rename(root / "a_1 & 50%")
    assert command(root, "--format", "latex", "--group-by", "count", "--out", root / "new" / "table.tex") == 0
    assert not capsys.readouterr().out
    text = (root / "new" / "table.tex").read_text()
    assert text.startswith("% 20 test samples")
    assert text.count(r"\begin{tabular}") == text.count(r"\toprule") == 2
    assert r"a\_1 \& 50\%" in text
    assert r"put\_on 50\%" in text
    assert r"95.0 $\pm$ 7.1 [31.5, 158.5]" in text
    assert "±" not in text
    assert command(root, "--group-by", "count") == 0
    assert r"| a\|b " in capsys.readouterr().out


def test_pooled_over_two_sets(tmp_path, capsys):
    first, second = two_methods(tmp_path / "one"), two_methods(tmp_path / "two")
    write_run(second / "c" / "seed_1", 1, answers(5, 2, 0))  # not in the first set
    assert command(first, second, "--pool", "--baseline", "b", "--compare", "top1", "few") == 0
    text = capsys.readouterr().out
    assert text.startswith("mean over 2 data sets and 2 seeds of the difference from b in points")
    mean, each = text.split("on each set, without a verdict")
    found = cells(mean)
    assert found["method"] == ["overall (top-1)", "few shot"]
    assert "c" not in found
    assert cells(each)["a"][0] == "two"
    assert found["a"][0].startswith("+67.5 [")
    assert command(first, "--baseline", "b", "--compare", "top1", "few") == 0
    assert cells(capsys.readouterr().out)["a"][-1] == found["a"][1]  # no seed varies there, nor does a sample
    assert command(second, "--methods", "c", "b", "--baseline", "b") == 0
    assert [*cells(capsys.readouterr().out)][-2:] == ["c", "b"]
    assert command(first, second, "--pool", "--baseline", "b", "--methods", "b", "c") == 2
    assert "--methods c: no such method; there are a, b" in capsys.readouterr().err
    for seed, place in ((4, first), (5, second)):  # no seed that both sets have: none of them counts
        for method in ("a", "b"):
            write_run(place / method / f"seed_{seed}", seed, answers(0, 0, 0))
    assert command(first, second, "--pool", "--baseline", "b", "--compare", "top1", "few") == 0
    assert capsys.readouterr().out == text
    write_run(second / "a" / "seed_3", 3, None)
    assert command(first, second, "--pool", "--baseline", "b") == 0
    assert str(second / "a" / "seed_3") in capsys.readouterr().err
    for seed, method in ((1, "a"), (1, "b")):
        changes = {"class_counts": [150, 50, 30]}  # the last class is no longer few
        write_run(tmp_path / "three" / method / f"seed_{seed}", seed, answers(5, 2, 2), **changes)
    third = tmp_path / "three"
    for words, reason in [
        ([first, third, "--pool", "--baseline", "b", "--compare", "top1", "few"], "three has no classes of few"),
        ([first, second, "--pool"], "--pool needs --baseline"),
        ([first, second, "--pool", "--baseline", "c"], "--baseline c is not in all sets; in all are a, b"),
    ]:
        assert command(*words) == 2
        assert reason in capsys.readouterr().err


def test_effects_of_parts(tmp_path, capsys):
    """The mean over all methods without the part, seeds and sets; right samples of 20 are known."""
    right = {"a": (5, 5), "a+b": (9, 7), "a+c": (4, 5), "a+c+b": (6, 6), "other": (0, 0)}
    for place in ("one", "two"):
        for method, numbers in right.items():
            for seed, number in enumerate(numbers, 1):
                write_run(tmp_path / place / method / f"seed_{seed}", seed, answers(number, 0, 0))
    assert command(tmp_path / "one", tmp_path / "two", "--effects", "--compare", "top1") == 0
    text = capsys.readouterr().out
    assert "and 4 pairs of runs of the difference between methods with a part and without it in points" in text
    assert "intervals are too narrow" in text
    found = cells(text.split("on each set")[0])
    assert [*found][-2:] == ["b", "c"]
    assert found["b"][0].startswith("+11.2 [")  # (4 + 2 + 2 + 1) / 4 of 20
    assert found["c"][0].startswith("-6.2 [")  # (-1 + 0 - 3 - 1) / 4
    for words, reason in [
        ([tmp_path / "one", "--effects", "--baseline", "a"], "--effects is without one"),
        ([tmp_path / "one", "--effects", "--pool"], "give one of the two"),
        ([tmp_path / "one", "--effects", "--best-test-epoch"], "--best-test-epoch is of the test split"),
        ([tmp_path / "one", "--effects", "--format", "csv"], "print Markdown or LaTeX"),
        (
            [two_methods(tmp_path / "plain"), "--effects"],
            "--effects compares methods such as a+b and a; there are a, b",
        ),
    ]:
        assert command(*words) == 2
        assert reason in capsys.readouterr().err
    write_run(tmp_path / "one" / "b+a" / "seed_1", 1, answers(9, 0, 0))
    assert command(tmp_path / "one", "--effects") == 2
    assert "a+b and b+a are made of the same parts; leave one out" in capsys.readouterr().err


def test_pooled_plot(tmp_path, capsys, monkeypatch):
    """A panel for each metric; in it the differences on each set, and last their mean, with their intervals."""
    from matplotlib.axes import Axes

    plotted = []
    original = Axes.errorbar
    monkeypatch.setattr(Axes, "errorbar", lambda *args, **more: plotted.append((args, more)) or original(*args, **more))
    for place, right in (("one", 4), ("two", 8)):
        for seed in (1, 2, 3):
            write_run(tmp_path / place / "plain" / f"seed_{seed}", seed, answers(2, 1, 1))
            for method, more in (("better", right), ("best $2", right + seed)):
                write_run(tmp_path / place / method / f"seed_{seed}", seed, answers(more, 1, 1))
    words = [tmp_path / "one", tmp_path / "two", "--pool", "--baseline", "plain", "--compare", "top1", "many"]
    assert command(*words, "--plot", tmp_path / "plot.png") == 0
    assert [more["label"] for _, more in plotted] == ["one", "two", "all sets"] * 2
    table = cells(capsys.readouterr().out.split("on each set")[0])
    assert table["method"] == ["overall (top-1)", "many shot"]
    for metric in (0, 1):
        one, two, both = ((args[1], more["xerr"]) for args, more in plotted[3 * metric : 3 * metric + 3])
        assert both[0] == pytest.approx([(a + b) / 2 for a, b in zip(one[0], two[0], strict=True)])
        for name, value, half in zip(("best $2", "better"), *both, strict=True):
            text = f"{value:+.1f} [{value - half:+.1f}, {value + half:+.1f}]"
            assert table[name][metric].startswith(text)
    assert imread(tmp_path / "plot.png").std() > 0.05
    (tmp_path / "other").mkdir()
    (tmp_path / "one").rename(tmp_path / "other" / "two")
    assert command(tmp_path / "other" / "two", *words[1:]) == 2
    assert "give no two RUNs the same name" in capsys.readouterr().err


def test_errors(tmp_path, capsys):
    root = two_methods(tmp_path / "runs")
    (tmp_path / "empty").mkdir()
    broken = write_run(tmp_path / "broken" / "run", 1, answers(1, 1, 1))
    (broken / "config.yaml").write_text("a: [")
    seedless = write_run(tmp_path / "seedless" / "run", 1, answers(1, 1, 1))
    (seedless / "config.yaml").write_text("feeder: x")
    uncounted = write_run(tmp_path / "uncounted", 1, answers(1, 1, 1), class_counts=None)
    for words, reason in [
        ([tmp_path / "empty"], "holds no run"),
        ([tmp_path / "nowhere"], "holds no run"),
        ([root, "--baseline", "c"], "--baseline c: no such method; there are a, b"),
        ([root, "--plot", "x.png"], "add --group-by count, --pool or --effects"),
        ([root, "--group-by", "count", "--plot", "x.gif"], "ends in .png, .svg, .pdf"),
        ([root, "--out", root / "a" / "seed_1" / "config.yaml" / "x"], "config.yaml"),
        ([broken], "cannot be read as YAML"),
        ([seedless], "names no seed"),
        ([uncounted, "--group-by", "count"], "has no training counts"),
    ]:
        assert command(*words) == 2, words
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert reason in error
