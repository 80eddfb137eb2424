"""The schema, the command line, and the official YAML files."""

from __future__ import annotations

import sys

import pytest
import yaml

from processor import command_line
from processor.config import Config
from processor.config_files import load_config
from processor.errors import ConfigError
from processor.learning_rate import learning_rate
from processor.methods import OVERLAYS
from processor.official import NO_EFFECT, OFFICIAL_FEEDER_ARGS, OFFICIAL_KEYS
from tests.conftest import ROOT

# A made-up file with the keys of CTR-GCN's NW-UCLA config and of Shap-Mix's scripts.
OFFICIAL = """
work_dir: ./work_dir/ucla/ctrgcn_joint
feeder: feeders.feeder_ucla.Feeder
train_feeder_args:
  data_path: joint
  label_path: train
  debug: False
  random_choose: True
  random_shift: False
  random_move: False
  window_size: 52
  normalization: False
  repeat: 5
  use_mmap: True
test_feeder_args: {data_path: bone motion, label_path: val, debug: False}
model: model.ctrgcn.Model
model_args:
  num_class: 10
  num_point: 20
  num_person: 1
  graph: graph.ucla.Graph
  graph_args: {labeling_mode: 'spatial'}
  drop_out: 0
weight_decay: 1e-4
base_lr: 0.1
lr_decay_rate: 0.1
step: 50
batch_size: 16
test_batch_size: 64
num_epoch: 65
start_epoch: 0
warm_up_epoch: 5
nesterov: True
optimizer: SGD
device: [0]
num_worker: 4
print_log: True
save_score: True
show_topk: [1, 5]
save_interval: 1
save_epoch: 30
eval_interval: 1
log_interval: 100
seed: 1
phase: train
ignore_weights: []
cos: True
ema: 0.8
dist_weights: ./ucla_table.npy
naive_mix_epoch: 7
naive_estimate_epoch: 6
dataset: ucla
model_saved_name: x
"""


def write(tmp_path, text):
    path = tmp_path / "official.yaml"
    path.write_text(text)
    return str(path)


def test_official_keys(tmp_path, caplog):
    caplog.set_level("INFO")
    config = load_config(write(tmp_path, OFFICIAL))
    assert config.train_feeder_args == {"stream": "joint", "split": "train", "window_size": 52, "repeat": 5}
    assert config.test_feeder_args == {"stream": "bone_motion", "split": "test"}
    assert config.model_args["layout"] == "ucla20"
    assert (config.schedule, config.step, config.device, config.ema) == ("cosine", [50], "auto", 0.8)
    assert (config.naive_mix_epoch, config.naive_estimate_epoch, config.weight_decay) == (7, 6, 1e-4)
    assert (config.mixing, config.loss) == ("shap_mix", "logit_adjustment")
    assert "names no method: Shap-Mix with logit adjustment" in caplog.messages[0]
    assert (config.dist_weights, config.dataset) == ("./ucla_table.npy", "ucla")
    for key in ("start_epoch", "random_choose", "use_mmap"):
        assert f"{key}: {NO_EFFECT}" in caplog.text


SHAP_MIX_ONLY = ("cos", "ema", "dist_weights", "naive_mix_epoch", "naive_estimate_epoch", "dataset")
CTR_GCN = "".join(line for line in OFFICIAL.splitlines(True) if not line.startswith(SHAP_MIX_ONLY))


def test_method_of_ctr_gcn_files(tmp_path, caplog):
    """CTR-GCN does not mix; Shap-Mix's keys and classes, and what the user says, win."""
    caplog.set_level("INFO")
    config = load_config(write(tmp_path, CTR_GCN))
    assert (config.mixing, config.loss) == ("none", "cross_entropy")
    for text in ("which do not mix", "config/methods/shap_mix.yaml", "mixing: st_mix, loss: cross_entropy"):
        assert text in caplog.messages[0]
    path = config.config
    caplog.clear()
    assert load_config(path, {"loss": "focal"}).mixing == "none"
    assert "mixing: none, loss: focal" in caplog.messages[0]
    config = load_config([path, "config/methods/shap_mix.yaml"])
    assert (config.mixing, config.loss) == ("shap_mix", "logit_adjustment")
    config = load_config(path, {"mixing": "st_mix"})
    assert (config.mixing, config.loss) == ("st_mix", "logit_adjustment")
    for override in ({"ema": 0.8}, {"mixing_args.temperature": 0.1}, {"feeder": "feeders.feeder_ntu.Feeder_LT_ros"}):
        caplog.clear()
        assert load_config(path, {"train_feeder_args": {}, "test_feeder_args": {}, **override}).mixing == "shap_mix"
        assert "names no method: Shap-Mix" in caplog.messages[0]
    caplog.clear()
    assert load_config(path, {"mixing": "shap_mix", "train_feeder_args": {}, "test_feeder_args": {}}).tau == 1
    assert "names no method" not in caplog.text


@pytest.mark.parametrize(
    ("args", "stream"),
    [({"bone": True}, "bone"), ({"vel": True}, "joint_motion"), ({"bone": True, "vel": True}, "bone_motion")],
)
def test_official_stream_flags(tmp_path, args, stream):
    text = yaml.safe_dump({"feeder": "feeders.synthetic.Feeder", "train_feeder_args": args})
    assert load_config(write(tmp_path, text)).train_feeder_args == {"stream": stream}


@pytest.mark.parametrize(
    ("label_path", "split"),
    [
        ("data/val_label.pkl", "test"),
        ("home/valentin/train_label.pkl", "train"),
        ("val", "test"),
        ("testing/train", "train"),
    ],
)
def test_official_label_path(tmp_path, label_path, split):
    text = yaml.safe_dump({"feeder": "feeders.synthetic.Feeder", "train_feeder_args": {"label_path": label_path}})
    assert load_config(write(tmp_path, text)).train_feeder_args == {"split": split}


def test_official_command_line(tmp_path):
    path = write(tmp_path, OFFICIAL)
    words = ["--config", path, "--device", "0", "1", "--start-epoch", "0", "--work-dir", "2024", "--print-log", "False"]
    config = load_config(path, command_line.overrides(command_line.parser().parse_args(words)))
    assert (config.device, config.work_dir, config.print_log) == ("auto", "2024", False)


def test_official_arguments_in_one_word(tmp_path):
    """``--train_feeder_args "bone=True, vel=True"``; commas inside a value stay."""
    path = write(tmp_path, yaml.safe_dump({"feeder": "feeders.feeder_ntu.Feeder"}))
    words = ["--config", path, "--train_feeder_args", "bone=True, vel=True,data_path='a,b.npz'", "val_subjects=[1,2]"]
    words += ["--optimizer", "Adam", "--naive_estimate_epoch", "-1", "--naive-mix-epoch", "-1"]
    config = load_config(path, command_line.overrides(command_line.parser().parse_args(words)))
    wanted = {"bone": True, "vel": True, "data_path": "a,b.npz", "val_subjects": [1, 2]}
    assert config.train_feeder_args == wanted
    assert (config.optimizer, config.naive_estimate_epoch, config.naive_mix_epoch) == ("Adam", -1, -1)


def test_unknown_graph(tmp_path):
    text = OFFICIAL.replace("graph.ucla.Graph", "graph.mine.Graph")
    with pytest.raises(ConfigError, match=r"model_args.graph 'graph.mine.Graph'; known are graph.ntu_rgb_d.Graph"):
        load_config(write(tmp_path, text))
    with pytest.raises(ConfigError, match="labeling_mode must be spatial"):
        load_config(write(tmp_path, OFFICIAL.replace("'spatial'", "'distance'")))


def test_graph_of_a_foreign_network(tmp_path, monkeypatch):
    """A network that takes ``graph`` gets it; the layout for mixing follows from it."""
    (tmp_path / "nets.py").write_text(
        "class Named:\n    def __init__(self, num_class, graph=None, graph_args=(), num_point=25): ...\n"
        "class Open:\n    def __init__(self, **options): ...\n"
        "class Other:\n    def __init__(self, num_class, layout, num_point=25, num_person=1, drop_out=0): ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    args = {"graph": "graph.ucla.Graph", "graph_args": {"labeling_mode": "distance"}, "num_point": 20}
    for name, given, layout in [
        ("Named", args, "ucla20"),
        ("Open", args, "ucla20"),
        ("Named", {**args, "graph": "nets.MyGraph"}, None),
    ]:
        values = {"feeder": "feeders.synthetic.Feeder", "model": f"nets.{name}", "model_args": given}
        config = load_config(write(tmp_path, yaml.safe_dump(values)), plugins=["nets"])
        assert config.model_args == given
        assert config.layout == layout
    text = OFFICIAL.replace("model.ctrgcn.Model", "nets.Other")
    config = load_config(write(tmp_path, text), plugins=["nets"])
    assert (config.model_args["layout"], "graph" in config.model_args) == ("ucla20", False)


STICKS = """
name: sticks
joint_names: [a, b, c, d]
bones: [[1, 0], [2, 1], [3, 2]]
parts: {low: [0, 1], high: [2, 3]}
"""


def test_layout_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sticks.yaml").write_text(STICKS)
    sticks = yaml.safe_load(STICKS)
    base = {"feeder": "feeders.feeder_pose.Feeder", "feeder_args": {"data_path": "x", "layout": "sticks.yaml"}}
    base |= {"layout": "sticks.yaml", "model_args": {"layout": str(tmp_path / "sticks.yaml")}}
    config = load_config(write(tmp_path, yaml.safe_dump(base)))
    assert config.layout == config.feeder_args["layout"] == config.model_args["layout"] == sticks
    assert load_config(config.config, {"layout": "ntu25", "model_args.layout": sticks}).layout == "ntu25"
    (tmp_path / "torn.yaml").write_text(STICKS.replace("[3, 2]", "[3, 3]"))
    for key in ("layout", "feeder_args.layout", "model_args.layout"):
        nearest = r"no skeleton layout 'ntu52' \(did you mean 'ntu25'\?\); there are ntu25, "
        with pytest.raises(ConfigError, match=f"official.yaml: {key}: {nearest}"):
            load_config(config.config, {key: "ntu52"})
        with pytest.raises(ConfigError, match=rf"official.yaml: {key}: torn.yaml: layout 'sticks': bones are not a"):
            load_config(config.config, {key: "torn.yaml"})


def test_tables_do_not_shadow_the_schema():
    assert not OFFICIAL_KEYS.keys() & Config.model_fields.keys()
    assert all(OFFICIAL_FEEDER_ARGS.values())


def test_every_config_of_the_repository_loads():
    aside = {ROOT / "config" / name for name in ("sweeps", *OVERLAYS)}  # no recipes: laid over one
    files = sorted(file for file in (ROOT / "config").rglob("*.yaml") if not aside & set(file.parents))
    assert len(files) >= 9
    for file in files:
        config = load_config(str(file.relative_to(ROOT)))
        assert config.work_dir == str(file.relative_to(ROOT).with_suffix("")).replace("config", "work_dir", 1)


def test_command_line_wins(tmp_path):
    path = write(tmp_path, OFFICIAL)
    words = ["--config", path, "--work-dir", "elsewhere", "--base_lr", "0.05", "--step", "3", "5", "--overwrite"]
    words += ["--train_feeder_args", "stream=bone", "repeat=2", "--set", "groups.many=50", "model_args.drop_out=0.5"]
    arguments = command_line.parser().parse_args(words)
    config = load_config(path, command_line.overrides(arguments))
    assert (config.work_dir, config.base_lr, config.step, config.overwrite) == ("elsewhere", 0.05, [3, 5], True)
    assert config.train_feeder_args["stream"] == "bone"
    assert config.train_feeder_args["repeat"] == 2
    assert (config.groups.many, config.groups.few, config.model_args["drop_out"]) == (50, 20, 0.5)


def test_files_over_each_other(tmp_path):
    recipe = tmp_path / "config" / "set" / "recipe.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text(
        "feeder: feeders.synthetic.Feeder\nfeeder_args: {stream: bone, window_size: 32}\nbase_lr: 0.2\nnum_epoch: 3\n"
        "mixing: shap_mix\nmixing_args: {temperature: 0.3}\n"
    )
    same, other = tmp_path / "same.yaml", tmp_path / "other.yaml"
    same.write_text("mixing: shap_mix\nmixing_args: {scale: 5}\nfeeder_args: {window_size: 16}\nbase_lr: 0.1\n")
    other.write_text("mixing: mixup\nmixing_args: {alpha: 0.5}\n")
    config = load_config([str(recipe), str(same)])
    assert (config.base_lr, config.num_epoch) == (0.1, 3)
    assert config.feeder_args == {"stream": "bone", "window_size": 16}
    assert config.mixing_args == {"temperature": 0.3, "scale": 5}
    assert config.config == f"{recipe} + {same}"
    assert load_config([str(recipe), str(other)]).mixing_args == {"alpha": 0.5}
    assert load_config(str(recipe), {"mixing": "mixup"}).mixing_args == {}
    assert load_config(str(recipe), {"mixing": "st_mix"}).mixing_args == {"temperature": 0.3}, "the same mixer"
    assert load_config(str(recipe), {"mixing": "shap_mix"}).mixing_args == {"temperature": 0.3}
    assert load_config(str(recipe), {"mixing_args.scale": 5}).mixing_args == {"temperature": 0.3, "scale": 5}
    with pytest.raises(ConfigError, match=r"recipe.yaml \+ .*missing.yaml|missing.yaml does not exist"):
        load_config([str(recipe), str(tmp_path / "missing.yaml")])


def test_what_is_given_stays_as_it_is(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("feeder: feeders.synthetic.Feeder\n")
    shared = {"n_max": 20, "imbalance": 5}
    given = {"train_feeder_args": shared, "train_feeder_args.imbalance": 2}
    assert load_config(str(path), given).train_feeder_args == {"n_max": 20, "imbalance": 2}
    assert shared == {"n_max": 20, "imbalance": 5}


def test_default_work_dir(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert load_config("config/nw_ucla_lt/shap_mix.yaml").work_dir == "work_dir/nw_ucla_lt/shap_mix"
    both = ["config/nw_ucla_lt/shap_mix.yaml", "config/methods/st_mix.yaml"]
    assert load_config(both).work_dir == "work_dir/nw_ucla_lt/shap_mix+st_mix"
    assert command_line.parser().parse_args(["--config", *both, "--seed", "2"]).config == both


def test_plugin_only_from_the_command_line(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("class Feeder:\n    def __init__(self, size: int): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    text = yaml.safe_dump({"feeder": "mine.Feeder", "train_feeder_args": {"size": 3}})
    with pytest.raises(ConfigError, match=r"'mine.Feeder' is outside feeders, model, shapmix.*--plugin mine"):
        load_config(write(tmp_path, text))
    assert "mine" not in sys.modules, "nothing is imported before it is allowed"
    assert load_config(write(tmp_path, text), plugins=["mine"]).feeder == "mine.Feeder"
    with pytest.raises(ConfigError, match=r"unknown key train_feeder_args.sise; did you mean size\?"):
        load_config(write(tmp_path, text.replace("size", "sise")), plugins=["mine"])


def test_learning_rate():
    def rate(epoch, step=0, **changes):
        config = Config(feeder="f", base_lr=0.1, step=[4, 6], warm_up_epoch=2, num_epoch=10, **changes)
        return learning_rate(config, epoch, step, 10)

    assert [rate(epoch) for epoch in (0, 1, 2, 3)] == pytest.approx([0.05, 0.1, 0.1, 0.1])
    assert [rate(epoch) for epoch in (4, 5, 6, 9)] == pytest.approx([0.01, 0.01, 0.001, 0.001])
    cosine = {"schedule": "cosine", "min_lr_ratio": 0.001}
    assert rate(1, 5, **cosine) == pytest.approx(0.1)
    assert rate(2, 0, **cosine) == pytest.approx(0.1)
    assert rate(6, 0, **cosine) == pytest.approx(0.1 * (0.001 + 0.999 / 2))
    assert rate(9, 9, **cosine) == pytest.approx(1e-4, rel=0.5)
    assert rate(5, 1, **cosine) < rate(5, 0, **cosine), "by iteration, not by epoch"


def test_methods_need_no_files(tmp_path, monkeypatch):
    """Outside of a checkout config/methods/<name>.yaml is what the code says, and so are the others."""
    recipe = write(tmp_path, yaml.safe_dump({"feeder": "feeders.synthetic.Feeder"}))
    names = [recipe, "config/methods/ldam_drw.yaml", "config/keys/balanced.yaml"]
    inside = load_config(names, {"loss_args.scale": 20})
    monkeypatch.chdir(tmp_path)
    outside = load_config(names, {"loss_args.scale": 20})
    assert outside == inside
    assert load_config(names).loss_args["scale"] == 30, "nothing is changed by overrides"
    with pytest.raises(ConfigError, match=r"config file config/methods/ldam_drx.yaml does not exist"):
        load_config([recipe, "config/methods/ldam_drx.yaml"])


@pytest.mark.parametrize(("word", "end"), [("--base_lrr", "; did you mean --base_lr?"), ("--zzzz", "; see --help")])
def test_unknown_options(word, end, capsys):
    with pytest.raises(SystemExit, match="2"):
        command_line.main(["--config", "config/demo.yaml", word])
    assert capsys.readouterr().err == f"error: unknown option {word}{end}\n"
