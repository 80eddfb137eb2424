"""Files that follow from the code are what the code says; the schema takes every config of the repository."""

from __future__ import annotations

import json

import pytest
import yaml

from processor.config import Config
from processor.config_files import load_config
from processor.methods import CHOICES, METHODS, OVERLAYS
from tests.conftest import ROOT
from tools import generate


def test_generated_files_are_up_to_date():
    for path, text in generate.generated(ROOT).items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run python -m tools.generate"
    for folder, rows in OVERLAYS.items():
        assert {path.stem for path in (ROOT / "config" / folder).iterdir()} == set(rows)


@pytest.mark.parametrize(("folder", "name"), [(folder, name) for folder, rows in OVERLAYS.items() for name in rows])
def test_overlays_are_their_rows(folder, name):
    row = OVERLAYS[folder][name]
    assert yaml.safe_load((ROOT / "config" / folder / f"{name}.yaml").read_text()) == row.keys
    assert row.starts_from is None or row.starts_from in METHODS
    for key, choices in CHOICES.items():
        assert row.keys.get(key, "none") in {*choices, "none"}


def test_schema_knows_the_keys_of_all_configs():
    schema = json.loads((ROOT / "config" / "schema.json").read_text())
    assert schema["additionalProperties"] is False
    assert "config" not in schema["properties"]
    for path in (ROOT / "config").rglob("*.yaml"):
        if path.parent.name != "sweeps":
            assert set(yaml.safe_load(path.read_text())) <= set(schema["properties"]), path


def test_every_key_is_described():
    assert [key for key, field in Config.model_fields.items() if not field.description] == []


def test_stale_files_are_written(tmp_path, monkeypatch, capsys):
    for folder in ("config/keys", "config/methods", "docs", "tools", "zoo"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("methods", "zoo"):
        (tmp_path / "docs" / f"{name}.md").write_text(f"before\n{generate.MARK}old\n{generate.MARK}after\n")
    (tmp_path / "zoo" / "index.json").write_text("[]")
    monkeypatch.setattr(generate, "__file__", str(tmp_path / "tools" / "generate.py"))
    assert generate.main([]) == 0
    page = (tmp_path / "docs" / "methods.md").read_text()
    assert "| `shap_mix` |" in page
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    capsys.readouterr()
    assert generate.main([]) == 0
    assert capsys.readouterr().out == ""
    recipe = str(ROOT / "config" / "demo.yaml")
    assert load_config([recipe, str(tmp_path / "config/methods/mixup.yaml")]).mixing == "mixup"
