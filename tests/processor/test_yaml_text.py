"""YAML: numbers with exponents, keys written twice, texts that would grow or go too deep."""

from __future__ import annotations

import pytest

from processor.command_line import overrides, parser
from processor.config_files import load_config
from processor.errors import ConfigError
from processor.yaml_text import MAX_DEPTH, MAX_LENGTH, parse_yaml, yaml_text

NUMBERS = {"1e-3": 0.001, "5E-1": 0.5, "1e0": 1.0, "2.5e3": 2500.0, "-3e+2": -300.0, ".5e1": 5.0, "-.25": -0.25}


@pytest.mark.parametrize(("word", "number"), NUMBERS.items())
def test_exponents_are_numbers(word, number):
    assert parse_yaml(f"[{word}]", "here") == [number]
    assert type(parse_yaml(word, "here")) is float
    assert parse_yaml(f"'{word}'", "here") == word, "quotes make text"


@pytest.mark.parametrize("word", ["1e", "e3", "1e-3x", "e-3", "v1e3", "1-e3", "-e3"])
def test_other_words_are_text(word):
    assert parse_yaml(word, "here") == word


def test_what_is_written_is_read_back():
    value = {"text": "1e-3", "list": ["-.5", 1e-3, 1e-05, 3e20, "yes", "2024-01-01", None, True], "wörter": "a: b"}
    assert parse_yaml(yaml_text(value), "here") == value
    assert parse_yaml(yaml_text(value, one_line=True), "here") == value
    assert "\n" not in yaml_text(value, one_line=True).rstrip("\n")


LEVELS = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 8)}]\n" for level in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "base_lr: 0.1\nseed: 1\nbase_lr: 0.2\n",
            "line 3, column 1: the key base_lr is written twice, first in line 1",
        ),
        ("x:\n  - {a: 1, b: 2, a: 1}\n", "line 2, column 18: the key a is written twice, first in line 2"),
        (LEVELS, "values, aliases written out"),
        ("a: &a [1, *a]", "line 1, column 4: an alias inside of what it names"),
        ("[" * 5000, f"more than {MAX_DEPTH} levels"),
        ("".join(" " * n + "a:\n" for n in range(500)), f"more than {MAX_DEPTH} levels"),
        ("a: !!bool maybe", "maybe"),
        ("a: 2024-13-45", "month must be in 1..12"),
        ("a: !!python/name:os.system x", "python/name:os.system"),
        ("a: [", "line 1, column 5"),
    ],
)
def test_refused(tmp_path, text, wanted):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"bad.yaml cannot be read as YAML: ") as caught:
        load_config(str(path))
    assert wanted in str(caught.value)
    assert len(str(caught.value)) < 500


def test_merged_keys_may_be_overridden():
    text = "x: &x {a: 1, b: 2}\ny: {p: &p {<<: *x, a: 3}}\nz: {<<: *p, a: 4}\n"
    assert parse_yaml(text, "here")["z"] == {"a": 4, "b": 2}


def test_numbers_everywhere(tmp_path, monkeypatch):
    """In lists, in arguments without annotations, in options."""
    (tmp_path / "loose.py").write_text(
        "class Feeder:\n    def __init__(self, split='', noise=0.1, span=(0, 1), **more): ...\n"
        "class Model:\n    def __init__(self, num_class, drop=0.0): ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "run.yaml"
    path.write_text(
        "feeder: loose.Feeder\nmodel: loose.Model\nmodel_args: {drop: 1e-1}\nbase_lr: 5e-2\n"
        "train_feeder_args: {span: [1e-1, 2], more: {deep: [1e1]}}\nstep: [1e1, 2e1]\nnum_epoch: 3e1\n"
    )
    words = [
        "--config",
        str(path),
        "--feeder_args",
        "noise=1e-2",
        "--weight-decay",
        "1e-4",
        "--set",
        "test_feeder_args.x=-5e-1",
    ]
    config = load_config(str(path), overrides(parser().parse_args(words)), ["loose"])
    assert config.model_args == {"drop": 0.1}
    assert config.train_feeder_args == {"span": [0.1, 2], "more": {"deep": [10.0]}}
    assert (config.feeder_args, config.test_feeder_args) == ({"noise": 0.01}, {"x": -0.5})
    assert (config.base_lr, config.weight_decay, config.step, config.num_epoch) == (0.05, 1e-4, [10, 20], 30)


@pytest.mark.parametrize(("lines", "wanted"), [(MAX_LENGTH // 2, "characters"), (5000, "line 1000, column 3")])
def test_long_files_are_not_read_to_the_end(tmp_path, monkeypatch, lines, wanted):
    monkeypatch.setattr("processor.yaml_text.MAX_NODES", 1000)
    path = tmp_path / "long.yaml"
    path.write_text("- a\n" * lines)
    with pytest.raises(ConfigError, match=rf"long\.yaml cannot be read as YAML: .*{wanted}"):
        load_config(str(path))
