"""The documents name only commands, options, keys, files and classes that exist, and their examples run."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import main
from processor.config_files import load_config
from processor.methods import METHODS, MIXERS, Choice
from processor.processor import Processor

from .conftest import tiny_config
from .documents import PAGES, README, ROOT, problems


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages(page):
    found = problems(page.read_text(encoding="utf-8"), page)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("```bash\npython main.py --config config/demo.yaml --base_lrr 1\n```", "base_lr"),
        ("```bash\npython main.py --config config/nothing.yaml\n```", "config/nothing.yaml does not exist"),
        ("```bash\npython main.py --config config/demo.yaml \\\n    --set feeder_args.streem=bone\n```", "streem"),
        ("```bash\ntorchrun --nproc_per_node 2 main.py --config config/demo.yaml --mixing mixxup\n```", "mixxup"),
        ("```bash\nshapmix-train --config config/demo.yaml --set loss_args.gamma=2\n```", "gamma"),
        ("```\noutput\npython -m tools.nothing --out x\n```", "no command tools.nothing"),
        ("```bash\npython -m tools.table work_dir/a --base b\n```", "--base"),
        ("```bash\npython -m tools.benchmark nothing\n```", "nothing"),
        ("```bash\npython -m tools.sweep config/sweeps/nothing.yaml\n```", "no file config/sweeps/nothing.yaml"),
        ("```bash\npip install '.[nothing]'\n```", "no extra nothing"),
        ("```bash\n.ci/nothing\n```", "no file .ci/nothing"),
        ("`python -m tools.saliency work_dir/demo --nothing`", "nothing"),
        ("`--base_lrr`", "no option --base_lrr"),
        ("`--set feeder_args.val_fractoin=0.1`", "no key feeder_args.val_fractoin"),
        ("`mixing_args.temprature`", "no key mixing_args.temprature"),
        ("`loss: focall`", "no focall"),
        ("`losss: focal`", "no key losss"),
        ("`estimate_intervall`", "no estimate_intervall"),
        ("`model.ctrgcn.Modell`", "no model.ctrgcn.Modell"),
        ("`feeders.feeder_nut.Feeder`", "no feeders.feeder_nut.Feeder"),
        ("`--model model.ctrgcn.Modell`", "no model.ctrgcn.Modell"),
        ("```yaml\nfeeder: feeders.synthetic.Feder\n```", "no feeders.synthetic.Feder"),
        ("`ShapMixx`", "no ShapMixx"),
        ("`processor/engin.py`", "no file processor/engin.py"),
        ("`feeders/feeder.py: StorFeeder`", "no StorFeeder"),
        ("`engin.py`", "no file engin.py"),
        ("`config/methodes/`", "no file config/methodes"),
        ("```yaml\nfeeder: x\nmodel_arg: {}\n```", "no key model_arg"),
        ("```yaml\ntrain_feeder_args: {repeet: 3}\n```", "no key train_feeder_args.repeet"),
        ("```yaml\nruns:\n  a: {set: {model_args.bas_channel: 4}}\n```", "no key model_args.bas_channel"),
        ("```python\nfrom shapmix import ShapMixx\n```", "no shapmix.ShapMixx"),
        ("[text](docs/nothing.md)", "no file docs/nothing.md"),
        ("[text](README.md#nothing)", "no heading README.md#nothing"),
        ("```console\nls\n```", "what is that?"),
    ],
)
def test_what_does_not_exist_is_seen(text, problem):
    found = problems(text)
    assert problem in "".join(found[:1])


def test_what_exists_passes():
    text = """`work_dir/<run>/last.pt`, `data/ntu120`, `scores_test.npz`, `config/methods/*.yaml`, `kill -9`, `ShapMix`,
    `model.ctrgcn.Model`, `feeder_args.stream=bone`, `--weights FILE`, `--set feeder_args.val_subjects=[1,2]`,
    `groups: {many: 50, few: 20}`, `feeders/feeder.py: StoreFeeder`, `mixing_args.temperature`, `on_bad_sample: skip`
    """
    assert problems(text) == []


def test_the_readme_is_short():
    text = README.read_text(encoding="utf-8")
    assert len(text.split()) < 1000
    assert f" {len(METHODS)} methods" in text


# --- the examples of CONTRIBUTING.md ---------------------------------------------------------------------------------


def write_examples(folder: Path) -> str:
    """A package of the page's three modules; its name."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.findall(r"^### A (data set|network|mixer)$.*?^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    package = folder / "examples_of_the_docs"
    package.mkdir()
    for title, code in [("__init__", ""), *found]:
        (package / f"{title.replace(' ', '_')}.py").write_text(code, encoding="utf-8")
    return package.name


def write_sequences(folder: Path) -> Path:
    """What the example's feeder reads: four sequences of two classes in either split."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
        for name in ("wave", "sit"):
            for number in range(4):
                np.save(folder / split / f"{name}_{number}.npy", rng.normal(size=(20 + number, 25, 3)))
    return folder


def test_examples(tmp_path, monkeypatch):
    """The data set and the network train as a plug-in; the mixer does once it is a row of the table."""
    name = write_examples(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    values = tiny_config(tmp_path, feeder=f"{name}.data_set.Feeder", model=f"{name}.network.Model", model_args={})
    values["feeder_args"] = {"data_path": str(write_sequences(tmp_path / "mine")), "window_size": 16}
    del values["train_feeder_args"], values["test_feeder_args"]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    assert main.main(["--config", str(path), "--plugin", name]) == 0
    mixer = importlib.import_module(f"{name}.mixer").JointMix
    monkeypatch.setitem(MIXERS, "joint_mix", Choice(mixer))
    config = load_config(str(path), plugins=[name])
    other = {"mixing": "joint_mix", "work_dir": str(tmp_path / "mixed")}
    assert Processor(config.model_copy(update=other)).start() == 0


def test_the_example_mixes(tmp_path, monkeypatch):
    name = write_examples(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    mixer = importlib.import_module(f"{name}.mixer").JointMix([3, 3])
    x, y = torch.arange(4.0).view(4, 1, 1, 1, 1).expand(4, 3, 8, 25, 1), torch.tensor([0, 1, 0, 1])
    mixed, target = mixer(x, y)
    own = (mixed == x).transpose(0, 3).flatten(1)  # (V, everything else)
    assert own.any()
    assert not own.all()
    assert torch.equal(own.all(dim=1), own.any(dim=1)), "a joint is the partner's in all frames"
    assert torch.allclose(target.sum(1), torch.ones(4))
