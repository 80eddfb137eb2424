"""The house's rules by reading the code: who may import whom, and what may not be called."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("shapmix", "model", "feeders", "processor", "tools", "main", "tests")
MAY_IMPORT = {
    "shapmix": {"shapmix"},
    "model": {"model", "shapmix"},
    "feeders": {"feeders", "shapmix"},
    "processor": {"processor", "model", "feeders", "shapmix"},
    "main": {"main", "processor", "model", "feeders", "shapmix"},
    "tools": {"tools", "processor", "model", "feeders", "shapmix"},
}
FILES = {
    str(path.relative_to(ROOT)): path
    for package in MAY_IMPORT
    for path in sorted([*(ROOT / package).rglob("*.py"), *ROOT.glob(f"{package}.py")])
}
FORBIDDEN = {
    "eval": "eval",
    "exec": "exec",
    "input": "input",
    "pickle.load": "pickle",
    "pickle.loads": "pickle",
    "pickle.Unpickler": "pickle",
    "yaml.load": "yaml.load; use safe_load",
    "yaml.load_all": "yaml.load_all; use safe_load_all",
    "yaml.unsafe_load": "yaml.unsafe_load; use safe_load",
    "yaml.full_load": "yaml.full_load; use safe_load",
}
OWN_GENERATORS = {"Generator", "RandomState", "SeedSequence", "default_rng", "Random", "SystemRandom"}
OWN_GENERATORS |= {"BitGenerator", "MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"}
GLOBAL_SEEDS = {"torch.manual_seed", "torch.seed", "torch.random.manual_seed", "torch.cuda.manual_seed_all"}
GLOBAL_SEEDS |= {"torch.cuda.manual_seed"}


def imported_modules(tree: ast.AST, package: str) -> set[str]:
    """Top-level names of all imports of a file, also of those inside functions; relative ones are its package's."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(package if node.level else str(node.module).partition(".")[0])
    return names


def wrong_imports(tree: ast.AST, package: str) -> set[str]:
    names = imported_modules(tree, package)
    wrong = (names & set(PACKAGES)) - MAY_IMPORT[package]
    if package == "shapmix":
        wrong |= names - MAY_IMPORT[package] - sys.stdlib_module_names - {"torch"}
    return wrong


def full_names(tree: ast.AST) -> dict[str, str]:
    """What a file's imports bind: np -> numpy, randint -> random.randint."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """``np.random.seed`` -> numpy.random.seed; what hangs on a call or an index has no dotted name."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        before = dotted(node.value, names)
        return f"{before}.{node.attr}" if before else ""
    return ""


def is_constant(call: ast.Call, keyword: str, value: object) -> bool:
    return any(
        entry.arg == keyword and isinstance(entry.value, ast.Constant) and entry.value.value is value
        for entry in call.keywords
    )


def violations(tree: ast.AST, package: str) -> list[str]:
    """'line: what' for every breach of a hard rule."""
    names, found = full_names(tree), []
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append(f"{node.lineno}: bare except")
        if not isinstance(node, ast.Call):
            continue
        name, what = dotted(node.func, names), ""
        if name in FORBIDDEN:
            what = FORBIDDEN[name]
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "cuda":
            what = ".cuda(; use .to(device)"
        elif name == "torch.load" and not is_constant(node, "weights_only", True):
            what = "torch.load without weights_only=True"
        elif any(entry.arg == "allow_pickle" for entry in node.keywords) and not is_constant(
            node, "allow_pickle", False
        ):
            what = "allow_pickle"
        elif package != "processor":
            module, _, function = name.rpartition(".")
            if name in GLOBAL_SEEDS or (module in ("random", "numpy.random") and function not in OWN_GENERATORS):
                what = f"global random state: {name}"
        if what:
            found.append(f"{node.lineno}: {what}")
    return found


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout")
def test_no_data_lies_at_the_top():
    """Files that somebody tried something with, and ``git add -A`` took along."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split(
        "\n"
    )
    top = {Path(name).suffix for name in tracked if name and "/" not in name}
    assert top <= {"", ".cff", ".md", ".py", ".toml", ".txt", ".yaml"}


def test_the_packages_are_found():
    assert {name.partition("/")[0].removesuffix(".py") for name in FILES} == set(MAY_IMPORT)
    assert "shapmix/shapmix.py" in FILES


@pytest.mark.parametrize("name", FILES)
def test_imports_and_calls(name):
    tree, package = ast.parse(FILES[name].read_text(encoding="utf-8")), name.partition("/")[0].removesuffix(".py")
    assert wrong_imports(tree, package) == set()
    assert violations(tree, package) == []


@pytest.mark.parametrize(
    ("package", "code", "wrong"),
    [
        ("shapmix", "import torch.nn.functional as F\nfrom math import pi\nfrom .draws import generator", set()),
        ("shapmix", "import numpy as np", {"numpy"}),
        ("shapmix", "def late():\n    from model.graph import Graph", {"model"}),
        ("model", "from shapmix import LAYOUTS\nimport numpy\nfrom .graph import Graph", set()),
        ("model", "from feeders.store import SkeletonStore", {"feeders"}),
        ("feeders", "import model.graph as graph, main", {"model", "main"}),
        ("processor", "from model import ctrgcn\nfrom feeders import store\nfrom tools import report", {"tools"}),
        ("main", "from processor.logs import open_log\nfrom tools import report", {"tools"}),
        ("tools", "from processor.logs import open_log\nfrom main import parser", {"main"}),
        ("tools", "from tests.conftest import find_ucla", {"tests"}),
    ],
)
def test_import_rule_sees(package, code, wrong):
    assert wrong_imports(ast.parse(code), package) == wrong


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("x.cuda()\nself.model[0].cuda(0)", 2),
        ("torch.cuda.synchronize()\nx.to('cuda')", 0),
        ("import pickle as p\np.load(file)\np.loads(text)", 2),
        ("from pickle import loads\nloads(text)", 1),
        ("pickle.dumps(x)\njson.loads(text)", 0),
        ("eval('1')\nexec('x = 1')", 2),
        ("model.eval()\nspec.loader.exec_module(module)", 0),
        ("yaml.load(text, Loader=yaml.SafeLoader)", 1),
        ("yaml.safe_load(text)", 0),
        ("np.load(path, allow_pickle=True)\nnp.load(path, allow_pickle=flag)", 2),
        ("np.load(path, allow_pickle=False)", 0),
        ("torch.load(path)\ntorch.load(path, weights_only=False)\nfrom torch import load\nload(path)", 3),
        ("torch.load(path, weights_only=True)\nmodule.load(path)", 0),
        ("try:\n    pass\nexcept:\n    pass", 1),
        ("try:\n    pass\nexcept ValueError:\n    pass", 0),
        ("import numpy as np\nnp.random.rand(3)\nnp.random.seed(0)", 2),
        ("from numpy import random\nrandom.shuffle(x)", 1),
        ("import random\nrandom.random()\nrandom.seed(1)", 2),
        ("from random import randint as number\nnumber(1, 2)", 1),
        ("import numpy as np\nnp.random.default_rng(0).random()\nnp.random.RandomState(0).shuffle(x)", 0),
        ("import torch\ntorch.manual_seed(0)\ntorch.cuda.manual_seed_all(0)", 2),
        ("import torch\ntorch.Generator().manual_seed(0)\nrandom.Random(0).random()", 0),
        ("input('path? ')", 1),
    ],
)
def test_call_rules_see(code, count):
    assert len(violations(ast.parse(code), "feeders")) == count


def test_processor_may_seed():
    assert violations(ast.parse("import torch\ntorch.manual_seed(0)"), "processor") == []
    assert len(violations(ast.parse("import torch\ntorch.load('x')"), "processor")) == 1


# --- the house: walls and sizes --------------------------------------------------------------------------------------


def imported_files(name: str) -> set[str]:
    """Files of the project that a file imports anywhere in it, also for types alone."""
    package = list(Path(name).parent.parts)
    found = set()

    def file(*parts: str) -> set[str]:
        return {path for path in ("/".join(parts) + ".py", "/".join(parts) + "/__init__.py") if path in FILES}

    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = [*above, *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                found |= file(*module, alias.name) or file(*module)
        elif isinstance(node, ast.Import):
            found |= {path for alias in node.names for path in file(*alias.name.split("."))}
    return found - {name}


def reached(name: str, graph: dict[str, set[str]]) -> set[str]:
    """Everything that a file imports, also through others."""
    found, waiting = set(), [name]
    while waiting:
        for file in graph[waiting.pop()] - found:
            found.add(file)
            waiting.append(file)
    return found


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    return {name: imported_files(name) for name in FILES}


def test_the_graph_is_seen(graph):
    assert "shapmix/mixer.py" in graph["shapmix/shapmix.py"]
    assert "processor/engine.py" in reached("main.py", graph)
    assert reached("a", {"a": {"b"}, "b": {"c"}, "c": {"a"}}) == {"a", "b", "c"}


def test_no_circle_of_files(graph):
    assert [name for name in FILES if name in reached(name, graph)] == []


def test_a_study_never_reaches_the_engine(graph):
    study = [name for name in FILES if name.startswith("processor/study/")]
    assert len(study) > 5
    for name in study:
        loop = {"processor/engine.py", "processor/processor.py", "processor/training.py"}
        assert not reached(name, graph) & loop, name


def functions(tree: ast.AST) -> list[tuple[str, int]]:
    """Names and lines, from def to the end."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [(node.name, node.end_lineno - node.lineno + 1) for node in ast.walk(tree) if isinstance(node, kinds)]


@pytest.mark.parametrize("name", FILES)
def test_sizes(name):
    """A file is at most 400 lines, a function 60, a command under 100."""
    text = FILES[name].read_text(encoding="utf-8")
    command = name == "main.py" or (name.startswith("tools/") and name.count("/") == 1)
    assert len(text.splitlines()) <= (99 if command else 400)
    assert [(function, lines) for function, lines in functions(ast.parse(text)) if lines > 60] == []


def test_a_long_function_is_seen():
    assert functions(ast.parse("def f():\n" + "    x = 1\n" * 60)) == [("f", 61)]
