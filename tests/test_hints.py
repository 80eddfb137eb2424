"""What a message advises must exist: an option of the command at hand, a key, or a whole command.

Libraries (shapmix, model, feeders) serve several commands and name keys, such as ``layout``. Only modules that certain
commands alone call may name options of these. Readers of files may name those that all their commands have.
"""

from __future__ import annotations

import ast
import re

import pytest

from processor.command_line import parser
from tests.conftest import ROOT

OPTION = re.compile(r"(?<![\w-])--([a-z][\w-]*)")
TOOLS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tools").rglob("*.py"))
READERS = ["tools/convert.py", "tools/show.py", "tools/predict.py"]
CALLED_BY = {
    "feeders/convert/prepare.py": ["tools/prepare_ntu.py", "tools/prepare_pose.py"],
    "feeders/convert/pyskl.py": ["tools/prepare_pose.py"],  # what it names is also a key, so an option of main.py
    **{f"feeders/convert/{name}.py": ["tools/convert.py"] for name in ("summary", "takes", "understand", "whole_sets")},
    "feeders/convert/": READERS,  # the readers of single files, which several commands have in common
    "feeders/lists.py": ["tools/split.py", "tools/make_longtail.py"],
    "feeders/splitting.py": ["tools/split.py"],
    "processor/export.py": ["tools/export.py"],
    "processor/zoo": ["tools/zoo.py", "main.py"],
    "processor/recognition": ["tools/predict.py", "processor/video/command.py"],
    "processor/video": ["tools/predict.py", "processor/video/command.py"],
    "processor/study": TOOLS,
    "tools": TOOLS,
}
MAIN = {name.removeprefix("--") for action in parser()._actions for name in action.option_strings}


def messages(tree: ast.AST) -> list[tuple[int, str]]:
    """(line, text) of every string of a module that is no docstring; what an f-string fills in is left out."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    skipped = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and is_text(node.body)}
    found = []
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
            found.append((node.lineno, "".join(str(getattr(part, "value", "")) for part in node.values)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append((node.lineno, node.value))
    return found


def is_text(body: list[ast.stmt]) -> bool:
    return bool(body) and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)


def options_of(tools: list[str]) -> set[str]:
    """Options that these commands define; those of main.py are the keys."""
    each = [set(re.findall(r'"--([a-z][\w-]*)"', (ROOT / tool).read_text())) for tool in tools]
    if tools == READERS:
        return set.intersection(*each)
    return set.union(*each, MAIN if "main.py" in tools else set())


def unknown_options(path: str, text: str) -> list[str]:
    """'line: --option' that a module advises, but that the command at hand does not have."""
    place = next((place for place in CALLED_BY if path.startswith(place)), None)
    known = options_of(CALLED_BY[place]) if place else MAIN if path.startswith("processor/") else set()
    wrong = []
    for line, message in messages(ast.parse(text)):
        if "python -m" in message or OPTION.match(message):
            continue  # a whole command, or a word of one that is run
        wrong += [f"{path}:{line}: --{name}" for name in OPTION.findall(message) if name not in known]
    return wrong


@pytest.mark.parametrize("package", ["shapmix", "model", "feeders", "processor"])
def test_hints_name_what_there_is(package):
    files = sorted((ROOT / package).rglob("*.py"))
    wrong = [line for file in files for line in unknown_options(str(file.relative_to(ROOT)), file.read_text())]
    assert not wrong, "name the key instead, or the whole command"


def test_the_test_sees_them():
    text = '"""--docstring"""\nx = f"give --img_shape {3} or " "--overwrite"\ny = "python -m tools.x --z"\n'
    assert unknown_options("feeders/x.py", text) == ["feeders/x.py:2: --img_shape", "feeders/x.py:2: --overwrite"]
    assert unknown_options("processor/x.py", text) == ["processor/x.py:2: --img_shape"]
    assert unknown_options("processor/study/x.py", text) == []
