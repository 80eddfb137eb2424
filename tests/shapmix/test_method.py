"""docs/method.md: its sections are those that docstrings cite, its body parts those of the layouts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shapmix import LAYOUTS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
CITATION = re.compile(r'docs/method\.md,\s+"([^"]+)"')


@pytest.mark.parametrize("package", ["shapmix", "model", "feeders", "processor", "tools", "tests"])
def test_cited_sections_are_there(package):
    cited = {
        (str(path.relative_to(ROOT)), section)
        for path in (ROOT / package).rglob("*.py")
        for section in CITATION.findall(path.read_text(encoding="utf-8"))
    }
    assert {(path, section) for path, section in cited if section not in SECTIONS} == set()


@pytest.mark.parametrize("name", ["ntu25", "ucla20", "coco17"])
def test_body_parts(name):
    (row,) = re.findall(rf"^\| `{name}` .*$", TEXT, re.MULTILINE)
    parts = dict(cell.strip().split(": ") for cell in row.strip("| ").split("|")[1:])
    written = {part.replace(" ", "_"): tuple(map(int, joints.split())) for part, joints in parts.items()}
    assert list(written.items()) == list(LAYOUTS[name].parts.items())
