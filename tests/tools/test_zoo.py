"""The zoo: entries are what the index says, ``--weights zoo:NAME`` finds them, and finished runs become entries."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

import main
from processor import zoo, zoo_entry
from processor.checkpoint import load_checkpoint
from processor.config_files import read_yaml
from processor.errors import CheckpointError
from processor.recognition import Recognizer
from processor.scores import read_scores
from tests.conftest import ROOT, tiny_config
from tools import zoo as command

ENTRIES = zoo.read_index()
every_entry = pytest.mark.parametrize("name", ENTRIES)
PAGE = (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8")


def dtypes(state) -> set[torch.dtype]:
    """Of the weights, without the statistics of batch norms."""
    return {value.dtype for key, value in state["model"].items() if ".running_" not in key}


# --- what lies in the repository -------------------------------------------------------------------------------------


@every_entry
def test_files(name):
    entry = ENTRIES[name]
    path = entry.file()
    assert zoo.sha256(path) == entry.sha256
    assert path.stat().st_size <= zoo.LARGEST
    scores = read_scores(path.parent / "scores_test.npz")
    assert scores.scores.dtype == "float32"
    assert (len(scores.ids), len(scores.names)) == (entry.test_samples, entry.classes)
    found = zoo_entry.figures(scores)
    assert {key: getattr(entry, key) for key in found} == found
    assert entry.interval[0] < entry.top1 < entry.interval[1]
    lines = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == entry.epochs
    state = load_checkpoint(path)
    assert dtypes(state) <= {getattr(torch, entry.dtype), torch.int64}
    assert len(state["card"]["class_names"]) == entry.classes


def test_nothing_else_lies_there():
    assert {path.name for path in zoo.ZOO.iterdir()} == {*ENTRIES, "index.json"}


@every_entry
def test_the_page_has_it(name):
    assert f"| `zoo:{name}` |" in PAGE
    assert ENTRIES[name].figure() in PAGE


@every_entry
def test_its_figure_is_printed(name, tmp_path, capsys, request, monkeypatch):
    """As docs/zoo.md says it, by the command that the page gives. Real data are wanted only for their own entries."""
    monkeypatch.chdir(ROOT)
    words = ["--config", f"zoo/{name}/config.yaml", "--phase", "test", "--weights", f"zoo:{name}"]
    if name.startswith("nw_ucla"):
        words += ["--set", f"feeder_args.data_path={request.getfixturevalue('ucla')}"]
    elif not Path(place := read_yaml(Path(words[1]))["feeder_args"].get("data_path", ROOT)).exists():
        pytest.skip(f"{place} is not there")
    zoo._checked.cache_clear()
    assert main.main([*words, "--work_dir", str(tmp_path / "test")]) == 0
    said = capsys.readouterr().out
    entry = ENTRIES[name]
    assert f"zoo:{name} was trained on {entry.data}: {entry.classes} classes" in said
    (top1,) = re.findall(r"overall \(top-1\) +(\S+) %", said)
    assert entry.figure().startswith(f"{top1} %")
    ours, theirs = read_scores(tmp_path / "test" / f"scores_test_{name}.npz"), read_scores(zoo.ZOO / name)
    assert ours.ids == theirs.ids
    assert abs(ours.scores - theirs.scores).max() < 1e-3


# --- finding ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A zoo of one tiny entry, and the run that it was."""
    folder = tmp_path_factory.mktemp("zoo")
    path = folder / "run.yaml"
    path.write_text(json.dumps(tiny_config(folder, mixing="none", average_weights="ema", logger="none")))
    assert main.main(["--config", str(path), "--print_log", "false"]) == 0
    words = ["--zoo", str(folder / "zoo"), "--name", "tiny", "--data", "made-up bodies"]
    assert command.main(["--add", str(folder / "run"), *words]) == 0
    return folder


def test_a_run_becomes_an_entry(made, capsys):
    entry = zoo.read_index(made / "zoo")["tiny"]
    assert (entry.classes, entry.layout, entry.dtype, entry.epochs) == (12, "ntu25", "float32", 2)
    assert entry.method == "none, logit_adjustment"
    run = read_scores(made / "run")
    stored = read_scores(made / "zoo" / "tiny")
    assert stored.ids == run.ids
    assert abs(stored.scores - run.scores).max() < 1e-5, "the averaged weights, which were tested"
    recogniser = Recognizer.from_checkpoint(entry.file(made / "zoo"))
    assert recogniser.class_names == run.class_names
    assert command.main(["--zoo", str(made / "zoo")]) == 0
    assert "zoo:tiny\n    made-up bodies; 12 classes, ntu25, joint; model.ctrgcn.Model" in capsys.readouterr().out


def test_its_config_trains_and_tests_it(made, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "ZOO", made / "zoo")
    path = str(made / "zoo" / "tiny" / "config.yaml")
    again = ["--config", path, "--work_dir", str(tmp_path / "a"), "--weights", "zoo:tiny"]
    assert main.main([*again, "--phase", "test"]) == 0
    assert (tmp_path / "a" / "scores_test_tiny.npz").is_file()
    assert main.main([*again, "--num_epoch", "1", "--report", "false", "--work_dir", str(tmp_path / "b")]) == 0
    assert Recognizer.from_checkpoint("zoo:tiny").class_names


def test_large_weights_are_stored_in_half(made, tmp_path, monkeypatch, caplog):
    size = zoo.read_index(made / "zoo")["tiny"].file(made / "zoo").stat().st_size
    monkeypatch.setattr(zoo_entry, "LARGEST", size - 1)
    entry = zoo_entry.add(made / "run", "half", "made-up bodies", tmp_path)
    assert entry.dtype == "float16"
    assert dtypes(load_checkpoint(entry.file(tmp_path))) == {torch.float16, torch.int64}
    monkeypatch.setattr(zoo_entry, "LARGEST", 1000)
    with pytest.raises(CheckpointError, match="bytes in float16; the zoo holds files up to 1000"):
        zoo_entry.add(made / "run", "quarter", "made-up bodies", tmp_path)
    assert list(zoo.read_index(tmp_path)) == ["half"], "what could not be added left nothing"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--name", "tiny"], "--add needs --name NAME and --data TEXT"),
        (["--name", "Tiny!", "--data", "x"], "must be of small letters, digits and _"),
        (["--name", "tiny", "--data", "x"], "has a 'tiny' already; choose another --name, or --overwrite"),
    ],
)
def test_bad_names(made, capsys, words, wanted):
    assert command.main(["--zoo", str(made / "zoo"), "--add", str(made / "run"), *words]) == 2
    assert wanted in capsys.readouterr().err


def test_bad_runs(made, tmp_path, capsys):
    words = ["--zoo", str(tmp_path / "zoo"), "--name", "x", "--data", "x", "--add"]
    assert command.main([*words, str(tmp_path)]) == 2
    assert "last.pt does not exist" in capsys.readouterr().err
    for name in ("config.yaml", "environment.json", "last.pt"):
        (tmp_path / name).write_bytes((made / "run" / name).read_bytes())
    assert command.main([*words, str(tmp_path)]) == 2
    assert "has no scores of its last epoch (1); finish the run first" in capsys.readouterr().err
    state = load_checkpoint(tmp_path / "last.pt")
    del state["card"]
    torch.save(state, tmp_path / "last.pt")
    assert command.main([*words, str(tmp_path)]) == 2
    assert "it is of an older version" in capsys.readouterr().err
    assert not (tmp_path / "zoo").exists()


def test_not_found(made, tmp_path, monkeypatch):
    def refused(name: str, folder: Path, wanted: str) -> None:
        monkeypatch.setattr(zoo, "ZOO", folder)
        with pytest.raises(CheckpointError, match=wanted):
            zoo.weights_file(f"zoo:{name}")

    refused("tony", made / "zoo", r"zoo:tony: the zoo has no 'tony'; did you mean tiny\?")
    refused("tiny", tmp_path, r"there is no zoo at .*belongs to the repository, not to an installed program")
    (tmp_path / "index.json").write_text('[{"name": "tiny"}]')
    refused("tiny", tmp_path, r"index\.json is damaged or of another version")
    (tmp_path / "index.json").write_bytes((made / "zoo" / "index.json").read_bytes())
    refused("tiny", tmp_path, "is missing; fetch it again")
    file = zoo.read_index(tmp_path)["tiny"].file(tmp_path)
    file.parent.mkdir()
    file.write_bytes(zoo.read_index(made / "zoo")["tiny"].file(made / "zoo").read_bytes()[:-1])
    refused("tiny", tmp_path, "has another checksum than the index says; fetch it again")
    assert zoo.weights_file("work_dir/a/last.pt") == Path("work_dir/a/last.pt")


@pytest.mark.parametrize("name", zoo.read_index())
def test_every_card_is_whole(name):
    """A network of the zoo can be used for all that a checkpoint of today can."""
    card = Recognizer.from_checkpoint(f"zoo:{name}", device="cpu").card
    assert [key for key, value in vars(card).items() if value is None or value == ""] == []
