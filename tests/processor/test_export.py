"""Networks as ONNX files: backbones, streams and feeders against torch; what cannot be exported; the page's code."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import main
from feeders.feeder import StoreFeeder
from model import layers
from processor import export
from processor.card import Card
from processor.checkpoint import load_checkpoint, save_checkpoint
from processor.export import ExportError, export_onnx, open_session
from processor.recognition import Recognizer, trained_network
from processor.scores import read_scores
from tests.documents import ROOT
from tests.feeders.whole import KINDS, feeder_of
from tests.model.test_backbones import randomised
from tests.small import Model as Small
from tools import export as command

CLASSES = 5
needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in export.PACKAGES), reason="needs the packages of extra export"
)


def card_of(feeder: StoreFeeder) -> Card:
    kind, shape = f"{type(feeder).__module__}.{type(feeder).__qualname__}", feeder.batch(np.arange(1)).shape[1:]
    return Card(
        {"feeder": kind}, tuple(shape), 2 if feeder.coordinates == 2 else 3, [f"ä {k}" for k in range(CLASSES)],
        [9] * CLASSES, feeder.layout.plain(), feeder.view_state(), version="1.2.3",
    )  # fmt: skip


PAGE = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
CODE, EXAMPLE = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)[1:]


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> ModuleType:
    """The functions that docs/export.md shows."""
    file = tmp_path_factory.mktemp("page") / "page.py"
    file.write_text(CODE, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("page", file)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    lines = [line for line in CODE.splitlines() if line]
    assert len(lines) <= 40, "two functions that are short enough to copy"
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [8, 40])
def test_the_page_chooses_the_frames_of_every_feeder(kind, window, page, tmp_path):
    """... from the view that the metadata has, also of sequences that are shorter or a little longer than T."""
    clips = {"num_clips": 3} if kind.startswith("poses") else {}
    feeder = feeder_of(kind, tmp_path, window_size=window, **clips)
    view = json.loads(json.dumps(feeder.view_state()))
    for row, member in enumerate(feeder.members):
        size = None
        if feeder.store.dims == 2:
            size = tuple(feeder.store.columns[side][member] for side in ("height", "width"))
        inputs = page.network_inputs(feeder.store.sequence(member), view, size)
        wanted = {name: value for name, value in vars(feeder.whole(np.array([row]))).items() if value is not None}
        assert inputs.keys() == wanted.keys()
        for name, value in inputs.items():
            assert value.dtype == wanted[name].numpy().dtype
            np.testing.assert_array_equal(value, wanted[name].numpy(), name)


@needs_onnx
@pytest.mark.parametrize(
    ("backbone", "kind", "stream"),
    [
        ("ctrgcn", "ntu120 normalised", "joint_motion"),
        ("stgcn", "store 2D", "joint"),
        ("stgcnpp", "ucla", "bone"),
        ("aagcn", "store 3D facing", "bone_motion"),
        ("", "poses", "bone_motion"),
    ],
)
def test_onnxruntime_agrees(backbone, kind, stream, page, tmp_path, monkeypatch):
    """With few blocks. ``python -m tools.benchmark export`` compares every backbone with every stream, whole."""
    monkeypatch.setattr(layers, "PLAN", ((1, 1), (2, 2)))
    feeder = feeder_of(kind, tmp_path / "data", window_size=16, stream=stream)
    card, file = card_of(feeder), tmp_path / "a.onnx"
    channels, _, joints, people = card.sample_shape
    if backbone:
        made = importlib.import_module(f"model.{backbone}").Model(CLASSES, feeder.layout, people, base_channel=4)
        network = randomised(made, 4, *card.sample_shape).float()
    else:
        network = Small(CLASSES, channels, joints).eval()
    assert export_onnx(file, card, network) < 1e-3
    session = open_session(file.read_bytes())
    known = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert known["class_names"] == card.class_names
    assert known["joints"] == list(feeder.layout.joint_names)
    assert known["inputs"] == [given.name for given in session.get_inputs()]
    assert (known["opset"], known["made_by"]) == (18, "shapmix 1.2.3")
    assert str(ROOT).encode() not in file.read_bytes(), "no paths of the machine that made it"
    for row, member in enumerate(feeder.members):
        size = [feeder.store.columns[side][member] for side in ("height", "width")] if card.dims == 2 else None
        inputs = page.network_inputs(feeder.store.sequence(member), known["view"], size)
        found = session.run(None, inputs)[0]
        with torch.no_grad():
            wanted = network(feeder.batch(np.array([row]))).numpy()
        np.testing.assert_allclose(found, wanted, atol=1e-4 * max(1, abs(wanted).max()))


# --- what cannot be exported -----------------------------------------------------------------------------------------


class Other(nn.Module):
    """x (N, C, T, V, M) -> (N, 5), with one operation of a test's own."""

    def __init__(self, operation) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, x: Tensor) -> Tensor:
        return self.operation(x.flatten(1)[:, :CLASSES])


CARD = Card({"feeder": "mine.Feeder"}, (3, 8, 4, 1), 3, list("abcde"), [1] * CLASSES)


@needs_onnx
@pytest.mark.parametrize(
    ("operation", "wanted"),
    [
        (lambda x: torch.linalg.svdvals(x[:, None]) * x, r"ONNX has no aten\._linalg_svd; replace"),
        (lambda x: x if x.sum() > 0 else -x, r"cannot be exported: .*data-dependent.*test_export\.py, line \d+"),
        (lambda x: x + x[: len(x)] + torch.zeros(len(x), CLASSES), r"fails on 1 samples.*x\.shape\[0\], not len\(x\)"),
        (lambda x: x + torch.rand(CLASSES), r"are \S+ from torch's, more than .*nothing was written"),
    ],
)
def test_networks_that_cannot_be_exported(operation, wanted, tmp_path, capfd):
    torch.manual_seed(0)
    with pytest.raises(ExportError, match=f"(?s){wanted}"):
        export_onnx(tmp_path / "a.onnx", CARD, Other(operation))
    assert not list(tmp_path.iterdir())
    assert "def forward" not in "".join(capfd.readouterr()), "torch's graphs are not printed"


@needs_onnx
@pytest.mark.parametrize(("opset", "wanted"), [(11, "opset 11 is too old: 18 is the lowest"), (99, "opset 99 is not")])
def test_opsets(opset, wanted, tmp_path):
    with pytest.raises(ExportError, match=wanted):
        export_onnx(tmp_path / "a.onnx", CARD, Other(torch.tanh), opset)


def test_missing_packages(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ExportError, match=r"needs onnxscript: pip install '\.\[export\]'"):
        export_onnx(tmp_path / "a.onnx", CARD, Other(torch.tanh))


@needs_onnx
def test_a_dataset_or_feeder_of_the_users_own(tmp_path, caplog):
    """The file begins with what the network takes, and takes any batch."""
    export_onnx(tmp_path / "a.onnx", CARD, Other(torch.tanh))
    x = np.random.default_rng(0).normal(size=(7, 3, 8, 4, 1)).astype(np.float32)
    found = open_session((tmp_path / "a.onnx").read_bytes()).run(None, {"x": x})[0]
    np.testing.assert_allclose(found, np.tanh(x.reshape(7, -1)[:, :CLASSES]), atol=1e-6)
    assert "trained on a Dataset of your own" in caplog.text


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(write_config, tmp_path):
    words = {"model": "tests.small.Model", "model_args": None, "mixing": "none", "num_epoch": 1}
    assert main.main(["--config", write_config(**words), "--plugin", "tests"]) == 0
    return tmp_path / "run"


@needs_onnx
def test_a_run_as_files(run, tmp_path, capsys, monkeypatch):
    """Both formats, of a run's folder or checkpoint; the page's example labels with one, the program with the other."""
    assert command.main([str(run), "--format", "onnx", "--plugin", "tests"]) == 0
    assert command.main([str(run / "last.pt"), "--format", "safetensors", "--out", str(tmp_path / "w.safetensors"),
                         "--plugin", "tests"]) == 0  # fmt: skip
    assert f"{run / 'network.onnx'}\nlogits of onnxruntime are within" in capsys.readouterr().out
    recognizer = Recognizer.from_checkpoint(tmp_path / "w.safetensors", plugins=["tests"])
    assert recognizer.card.plain().keys() == trained_network(run, ["tests"])[0].plain().keys()
    scores = read_scores(run / "scores_test.npz")
    frames = recognizer.sample(np.random.default_rng(0).random((40, 1, 25, 3))).frames
    np.save(run / "sequence.npy", frames)
    (run / "example.py").write_text(f"{CODE}\n\n{EXAMPLE}", encoding="utf-8")
    monkeypatch.chdir(run)
    capsys.readouterr()
    found = runpy.run_path("example.py")["probabilities"]
    said, wanted = capsys.readouterr().out, recognizer(frames)
    np.testing.assert_allclose(found[0], wanted.probabilities, atol=1e-4)
    assert said == f"{wanted.label}\n"
    assert scores.class_names == recognizer.class_names
    words = ["--config", str(run / "config.yaml"), "--phase", "test", "--work_dir", str(tmp_path / "test")]
    assert main.main([*words, "--weights", str(tmp_path / "w.safetensors"), "--plugin", "tests"]) == 0
    again = read_scores(tmp_path / "test" / "scores_test_w.npz")
    np.testing.assert_allclose(again.scores, scores.scores, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["nothing", "--format", "onnx"], "nothing does not exist"),
        (["last.pt", "--format", "onnx"], "says nothing of its data and classes"),
        (["last.pt", "--format", "safetensors"], "says nothing of its data and classes"),
        (["last.pt", "--format", "onnx", "--out", "."], "--out . is a folder"),
        (["last.pt", "--format", "safetensors", "--opset", "18"], "--opset is for --format onnx"),
        (["last.pt", "--format", "safetensors", "--out", "last.pt"], "last.pt is what is exported; name another file"),
        (["zoo:nothing", "--format", "onnx"], "nothing"),
    ],
)
def test_bad_words(words, wanted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path / "last.pt", {"model": Small(3).state_dict()})
    assert command.main(words) == 2
    assert wanted in capsys.readouterr().err
    assert load_checkpoint(tmp_path / "last.pt").keys() == {"model"}


def test_a_network_of_the_zoo(tmp_path, monkeypatch):
    """... is written to the current folder."""
    monkeypatch.chdir(tmp_path)
    assert command.main(["zoo:demo", "--format", "safetensors"]) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["demo.safetensors"]
