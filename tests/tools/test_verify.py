"""tools.verify: a run is what its files say, and what is changed in one of them is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

import main
from feeders.files import SEAL, sealed, unsealed
from processor.checkpoint import load_checkpoint, save_checkpoint
from processor.scores import read_scores
from tests.conftest import tiny_config
from tools.verify import main as verify

RUN = {"average_weights": "ema", "average_decay": 0.5, "post_hoc_tau": 1, "loss": "cross_entropy", "mixing": "none"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run whose figures are those of averaged weights with adjusted logits."""
    folder = tmp_path_factory.mktemp("verify")
    values = tiny_config(folder, eval_interval=2, num_epoch=4, save_interval=3, **RUN)
    (folder / "run.yaml").write_text(yaml.safe_dump(values))
    assert main.main(["--config", str(folder / "run.yaml")]) == 0
    return folder / "run"


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_the_same(run, capsys):
    assert verify([str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:-1]] == [
        ["same", what]
        for what in ("config", "records", "epochs", "code", "versions", "machine", "data", "scores", "figures")
    ]
    assert lines[-1] == f"verified: {run}"
    assert verify([str(run / "best.pt")]) == 0, "an earlier epoch, which was evaluated"


def test_a_checkpoint_says_what_made_it(run):
    facts = json.loads((run / "environment.json").read_text())
    state = load_checkpoint(run / "last.pt")
    assert state["origin"].items() <= facts.items()
    assert facts["data_checksum"] == state["data"]
    assert facts["torch"] == torch.__version__
    assert facts["git_commit"] is None or (len(facts["git_commit"]) == 40 and facts["git_dirty"] in (True, False))


def other_json(name: str, key: str, value: object) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        lines = (run / name).read_text().splitlines(keepends=True) if name.endswith("l") else [(run / name).read_text()]
        facts = json.loads(lines[-1])
        assert facts[key] != value
        facts = {**facts, key: value}
        facts.pop(SEAL, None)  # as somebody would who changes a figure by hand
        (run / name).write_text("".join([*lines[:-1], json.dumps(facts)]) + "\n")

    return change


def other_checkpoint(key: str, change: Callable) -> Callable[[Path], None]:
    def write(run: Path) -> None:
        state = load_checkpoint(run / "last.pt")
        state[key] = change(state[key])
        save_checkpoint(run / "last.pt", state)

    return write


def other_scores(run: Path) -> None:
    file = read_scores(run / "scores_test.npz")
    file.scores[3, 0] += 1e-3
    file.write(run / "scores_test.npz")


def other_samples(run: Path) -> None:
    file = read_scores(run / "scores_test.npz")
    replace(file, ids=["nobody", *file.ids[1:]]).write(run / "scores_test.npz")


def other_lines(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def write(run: Path) -> None:
        path = run / "metrics.jsonl"
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))

    return write


def of_another_run(lines: list[str]) -> list[str]:
    line = {**unsealed(json.loads(lines[1])), "lr": 0.7}
    return [lines[0], json.dumps(sealed(line)) + "\n", *lines[2:]]


def other_config(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("post_hoc_tau: 1.0", "post_hoc_tau: 0.5"))


@pytest.mark.parametrize(
    ("change", "what", "words"),
    [
        (other_config, "other config", "last.pt has other post_hoc_tau than"),
        (other_json("environment.json", "git_commit", "0"), "other records", "git_commit: environment.json 0, "),
        (other_json("environment.json", "data_checksum", "x"), "other records", "data_checksum: environment.json x"),
        (other_json("metrics.jsonl", "top1", 0.987), "other figures", "top1: then 0.987, here 0."),
        (other_lines(lambda lines: lines[:1] + lines[3:]), "other epochs", "missing: epochs 1 to 2"),
        (other_lines(lambda lines: lines[:1] + lines), "other epochs", "more than once: epochs 0"),
        (other_lines(of_another_run), "other epochs", "changed or of another run: epochs 1"),
        (other_checkpoint("data", lambda text: f"{text[:-1]}x"), "other data", "checksum then"),
        (
            other_checkpoint("average", lambda w: {k: v * 1.01 if "fc.weight" in k else v for k, v in w.items()}),
            "other scores", "24 samples differ: ",
        ),
        (other_scores, "other scores", "1 samples differ: "),
        (other_samples, "other scores", "other samples: "),
    ],
)  # fmt: skip
def test_what_is_changed_is_named(run, capsys, change, what, words):
    change(run)
    assert verify([str(run)]) == 2
    printed = capsys.readouterr()
    assert f"\nerror: {run} is not verified: " in f"\n{printed.err}"
    assert what in printed.err.splitlines()[-1]
    assert words in next(line for line in printed.out.splitlines() if line.split()[:2] == what.split())


def test_other_code_does_not_matter(run, capsys):
    facts = {"git_commit": "0" * 40, "git_dirty": False, "torch": "2.6.0"}
    other_checkpoint("origin", lambda made: {**made, **facts})(run)
    for key, value in facts.items():
        path = run / "environment.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    assert verify([str(run)]) == 0
    printed = capsys.readouterr().out
    assert f"other   code      git_commit: then {'0' * 40}, here " in printed
    assert "other   versions  torch: then 2.6.0, here " in printed


def test_other_data(run, capsys):
    assert verify([str(run), "--set", "train_feeder_args.n_max=9"]) == 2
    assert "is not verified: other data" in capsys.readouterr().err


def test_what_was_not_evaluated(run, capsys):
    """The third of four epochs was not."""
    assert verify([str(run / "epoch_2.pt")]) == 2
    printed = capsys.readouterr()
    assert "unknown figures   epoch_2.pt (epoch 3, step 0) was not evaluated; finish the run" in printed.out
    assert "not verified: unknown figures" in printed.err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("config.yaml", "has no config.yaml"),
        ("environment.json", "environment.json is missing"),
        ("last.pt", "last.pt"),
    ],
)
def test_a_missing_file_is_named(run, capsys, name, words):
    (run / name).unlink()
    assert verify([str(run)]) == 2
    assert words in capsys.readouterr().err


def test_the_zoo(capsys):
    assert verify(["zoo:demo"]) == 0
    assert "same    figures   2 figures of epoch 35, top-1 98.3 %" in capsys.readouterr().out


def test_a_damaged_line_of_the_metrics(run, capsys):
    path = run / "metrics.jsonl"
    path.write_text(path.read_text().replace('"epoch": 3', '"epoch": 8'))
    assert verify([str(run)]) == 2
    assert f"line 4 of {path} is damaged, and no other is of last.pt" in capsys.readouterr().out
