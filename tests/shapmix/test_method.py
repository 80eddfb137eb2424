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


def test_table_of_layouts():
    """docs/data.md has every layout with its number of joints and its parts."""
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").partition("## Skeleton layouts")[2]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in re.findall(r"^\| `.*$", page, re.MULTILINE)]
    joints = {
        name: int(number) for row in rows for name, number in zip(*(row[i].split(", ") for i in (0, 1)), strict=True)
    }
    assert joints == {f"`{name}`": layout.num_joints for name, layout in LAYOUTS.items()}
    for row in rows:
        for name in row[0].split(", "):
            parts = LAYOUTS[name.strip("`")].part_names
            assert row[2].split()[0].strip(",") == parts[0]
            assert ("arms" in row[2]) == ("left_arm" in parts)


@pytest.mark.parametrize("name", ["ntu25", "ucla20", "coco17"])
def test_body_parts(name):
    (row,) = re.findall(rf"^\| `{name}` .*$", TEXT, re.MULTILINE)
    parts = dict(cell.strip().split(": ") for cell in row.strip("| ").split("|")[1:])
    written = {part.replace(" ", "_"): tuple(map(int, joints.split())) for part, joints in parts.items()}
    assert list(written.items()) == list(LAYOUTS[name].parts.items())
