"""pyproject.toml agrees with requirements.txt and with the folders."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TOP = ("shapmix", "model", "feeders", "processor", "tools")


def test_the_extra_is_what_requirements_txt_lists():
    """Each line there has its reason above it; torch has a lower bound of its own in pyproject.toml."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    needed = [line for line in lines if not line.startswith("#")]
    assert [lines[lines.index(line) - 1][:2] for line in needed] == ["# "] * len(needed)
    assert needed[0].startswith("torch==")
    assert needed[1:] == PROJECT["project"]["optional-dependencies"]["train"]
    assert [re.split(r"\W", line)[0] for line in PROJECT["project"]["dependencies"]] == ["torch"]


def test_the_wheel_holds_every_package():
    found = [path.parent for top in TOP for path in (ROOT / top).rglob("__init__.py")]
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(
        ".".join(path.relative_to(ROOT).parts) for path in found
    )


def test_the_commands_exist():
    for target in PROJECT["project"]["scripts"].values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))
