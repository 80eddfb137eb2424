"""Reads a document and finds names of commands, options, keys, files and classes that do not exist.

Code spans, code blocks and links are read. Blocks of ``bash`` are commands, ``yaml`` keys, ``python`` code; ``text`` is
output and is not read. In a block without a language the lines that begin with a command are read.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import io
import re
import runpy
import shlex
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from processor import command_line
from processor.config import Config, Groups
from processor.official import OFFICIAL_KEYS
from processor.study.plan import Run, Sweep

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = ("shapmix", "model", "feeders", "processor", "tools")
OWN = ("data/", "work_dir/", "../shared")  # the user's folders
# Whose keys the arguments in a key are: parameters of what a folder defines.
FAMILIES = {f"{split}feeder_args": "feeders" for split in ("", "train_", "val_", "test_")} | {
    "model_args": "model", "mixing_args": "shapmix", "loss_args": "shapmix", "second_stage_args": "model",
}  # fmt: skip
# Names of others and of examples: programs, files, classes, splits.
FOREIGN = set(
    re.findall(
        r"\S+",
        """pip torchrun nproc_per_node pytest ruff mypy git kill python torch numpy npz skeleton json yaml x_train
        main work_dir data best_score NTU120_CSub NTU60_CS all_sqe skes_available_name k400_hrnet k400_kpfiles_2d
        ntu60_3danno ntu120_3danno epoch1_test_score best_pred
        nturgbd_skeletons_s001_to_s017 nturgbd_skeletons_s018_to_s032 NTU_RGBD120_samples_with_missing_skeletons
        NTU60_XSub NAME_saliency mypackage mine feeder_mine joint_mix JointMix xsub_train xsub_val _lt a
        x_nose noseX nose_visibility a03_s12_t1
        accelerate compute_loss RepeatDataset iteration steps_per_epoch drop_last n_k NCTV Logits""",
    )
)
COMMAND = re.compile(r"(\w+=\S+ )*(python3? |torchrun |shapmix-train |pip |\.ci/run)")
WRITES = ("--out", "--json", "--plot")
OTHERS = ("git", "ruff", "mypy", "pre-commit", "cd")
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(r"[\w<>*./-]*\.(py|ya?ml|md|toml|txt|jsonl?|npz|pt|gif|png|cff|pkl|zip)")


# --- what there is ---------------------------------------------------------------------------------------------------


@cache
def tracked() -> list[str]:
    """Files and folders (with a last "/") of the repository, without the user's own."""
    paths = [path for path in ROOT.rglob("*") if not {".git", "__pycache__"} & set(path.parts)]
    names = [path.relative_to(ROOT).as_posix() + "/" * path.is_dir() for path in paths]
    return [name for name in names if not name.startswith(OWN)]


@cache
def words_of(file: Path) -> set[str]:
    """Names of a Python file, and words in its strings that are no docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found: set[str] = set()
    for node in ast.walk(tree):
        texts = [str(getattr(node, field, "")) for field in ("id", "attr", "arg", "name", "module")]
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            texts.append(node.value)
        found.update(*(re.findall(r"\w+", text) for text in texts))
    return found


@cache
def vocabulary() -> set[str]:
    """Every name in the code, in the YAML and TOML files, and in the paths."""
    found = FOREIGN | set(re.findall(r"\w+", " ".join(tracked())))
    for name in tracked():
        if name.endswith(".py") and (not name.startswith("tests/") or name.endswith("/conftest.py")):
            found |= words_of(ROOT / name)
        elif name.endswith((".yaml", ".yml", ".toml", "requirements.txt")):
            found |= set(re.findall(r"\w+", (ROOT / name).read_text(encoding="utf-8")))
    return found


@cache
def arguments(folder: str) -> set[str]:
    """Names of all parameters in a package."""
    found: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        found |= {
            node.arg for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.arg)
        }
    return found


@cache
def options() -> set[str]:
    """Every option of main.py and of the tools."""
    found: set[str] = set()

    def collect(parser: argparse.ArgumentParser) -> None:
        for action in parser._actions:
            found.update(action.option_strings)
            for other in action.choices.values() if isinstance(action, argparse._SubParsersAction) else ():
                collect(other)

    commands = [path for path in (ROOT / "tools").glob("*.py") if "__main__" in path.read_text(encoding="utf-8")]
    for module in ["main", "tools.benchmark", *(f"tools.{path.stem}" for path in commands)]:
        with parsing_only() as seen:
            run_module(module, ["--help"])
        collect(seen[0])
    return found


# --- command lines, which are parsed and not carried out -------------------------------------------------------------


class Parsed(BaseException):
    """A command line was understood."""


@contextlib.contextmanager
def parsing_only() -> Iterator[list[argparse.ArgumentParser]]:
    """Ends a command where its arguments are parsed; gives its parsers, the outer one first."""
    original, inside, seen = argparse.ArgumentParser.parse_known_args, [], []

    def parse(self: argparse.ArgumentParser, *words: Any, **more: Any) -> Any:
        seen.append(self)
        self.allow_abbrev = False
        inside.append(self)
        try:
            found, unknown = original(self, *words, **more)
        finally:
            inside.pop()
        if inside:
            return found, unknown
        if unknown:
            self.error(f"unknown option {unknown[0]}")
        raise Parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", parse)
        yield seen


def error_of(work: Any) -> str:
    """The last line that a command prints of an error, or nothing."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = work()
    except Parsed:
        return ""
    except SystemExit as end:
        code = end.code
    return [*said.getvalue().splitlines(), f"exit code {code}"][-2] if code else ""


def run_module(module: str, words: list[str]) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [module, *words])
        patch.delitem(sys.modules, module, raising=False)  # which runpy would warn of
        return error_of(lambda: runpy.run_module(module, run_name="__main__", alter_sys=True))


def training_problem(words: list[str]) -> str:
    """A command line of main.py, up to a valid config; its options alone where a package or file is the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_line, "Processor", lambda config: SimpleNamespace(start=lambda: 0))
        patch.chdir(ROOT)
        users = "--plugin" in words or any(re.fullmatch(r"[A-Z]+|data/.*\.yaml", word) for word in words)
        with parsing_only() if users else contextlib.nullcontext():
            return error_of(lambda: command_line.main(words))


def command_problems(line: str) -> Iterator[str]:
    for command in re.split(r"&&|;", line):
        words = shlex.split(command, comments=True)
        while words and re.match(r"\w+=", words[0]):
            words.pop(0)
        yield from (problem for problem in _command_problems(words) if problem)


def _command_problems(words: list[str]) -> Iterator[str]:
    program, rest = (words[0], words[1:]) if words else ("git", [])
    if "main.py" in words or program == "shapmix-train":
        yield training_problem(words[words.index("main.py") + 1 :] if "main.py" in words else rest)
    elif program.startswith("python") and rest[:1] == ["-m"]:
        module, rest = rest[1].removeprefix("shapmix_train."), rest[2:]
        if not module.startswith("tools."):
            yield "" if module in FOREIGN else f"no command {module}"
        elif not any(ROOT.glob(f"{module.replace('.', '/')}*")):
            yield f"no command {module}"
        elif rest:
            with parsing_only():
                yield run_module(module, rest)
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for word in re.findall(r"\[(\w+)\]", " ".join(rest)):
            yield "" if word in extras else f"no extra {word}"
    elif program not in OTHERS:
        yield path_problem(program if not program.startswith("python") else rest[0])
    yield from argument_problems(rest)


def argument_problems(words: list[str]) -> Iterator[str]:
    """Paths, keys and classes among the words of a command line; what an option writes is the user's."""
    for before, word in zip(["", *words], words, strict=False):
        if re.fullmatch(r"[\w.]+=\S*", word):
            yield from key_problems(dict([word.split("=", 1)]))
        elif before not in WRITES and (FILE.fullmatch(word) or f"{word.partition('/')[0]}/" in tracked()):
            yield path_problem(word)
        yield class_problem(word)


# --- the pieces of a page --------------------------------------------------------------------------------------------


def path_problem(name: str) -> str:
    """A path of the repository or of the user; a bare name may lie anywhere, or be a file that the code names."""
    name = re.sub(r"(?<=\.zip)/.*", "", name.removeprefix("./").rstrip("/"))  # a folder in an archive
    if f"{name}/".startswith(OWN) or Path(name).stem in FOREIGN or any(ROOT.glob(name)):
        return ""
    found = "/" not in name and (any(path.endswith(f"/{name}") for path in tracked()) or not word_problem(name))
    return "" if found else f"no file {name}"


def word_problem(text: str) -> str:
    unknown = [word for word in re.findall(r"[A-Za-z_]\w\w+", text) if word not in vocabulary()]
    return f"no {', '.join(unknown)} in the code" if unknown else ""


def class_problem(dotted: str) -> str:
    """Of a dotted path into our packages; other texts have no problem."""
    module, names = dotted, []
    if not re.fullmatch(rf"({'|'.join(PACKAGES)})(\.\w+)+", dotted) or set(dotted.split(".")) & FOREIGN:
        return ""
    while True:
        try:
            found: Any = importlib.import_module(module)
            break
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            names.insert(0, last)
    for name in names:
        found = getattr(found, name, None)
    return "" if found is not None else f"no {dotted}"


def key_problems(values: dict[str, Any]) -> Iterator[str]:
    """Keys of a config, a sweep or a layout, or arguments of what a config names."""
    known = {*FOREIGN, *Config.model_fields, *Sweep.model_fields, *Run.model_fields, *OFFICIAL_KEYS}
    for key, value in values.items():
        first, _, rest = str(key).partition(".")
        if first not in known and not any(first in arguments(folder) for folder in PACKAGES[:3]):
            yield f"no key {first}"
        yield class_problem(str(value))
        inner = {rest: value} if rest else value
        if isinstance(inner, dict) and first in (*FAMILIES, "groups"):
            allowed = set(Groups.model_fields) if first == "groups" else arguments(FAMILIES[first])
            yield from (f"no key {first}.{name}" for name in inner if name.partition(".")[0] not in allowed)
        if first == "set" and isinstance(inner, dict):
            yield from key_problems(inner)
        if first in ("runs", "grid") and isinstance(inner, dict):
            yield from (text for run in inner.values() if isinstance(run, dict) for text in key_problems(run))


def span_problems(text: str) -> Iterator[str]:
    if COMMAND.match(text):
        yield from command_problems(text)
    elif text.startswith("-"):
        words = [word.partition("=")[0] for word in text.split() if word.startswith("--")]
        yield from (f"no option {word}" for word in words if word not in options() and word[2:] not in FOREIGN)
        yield from argument_problems(text.split())
    elif match := re.fullmatch(r"([\w/]+\.py): (\w+)", text):
        yield path_problem(match[1]) or (
            "" if match[2] in words_of(ROOT / match[1]) else f"no {match[2]} in {match[1]}"
        )
    elif re.fullmatch(r"[\w.]+=[^\s\"]*", text):
        yield from key_problems(dict([text.split("=", 1)]))
    elif re.match(r"[a-z]\w*(\.\w+)*: ", text):
        yield from key_problems(yaml.safe_load(f"{{{text}}}"))
        yield word_problem(text)
    elif re.fullmatch(r"\S*/\S*", text) or FILE.fullmatch(text):
        yield path_problem(text)
    elif text.partition(".")[0] in PACKAGES and "." in text:
        yield class_problem(text)
    elif re.fullmatch(r"[a-z]\w*(\.\w+)+", text) and text.partition(".")[0] in Config.model_fields:
        yield from key_problems({text: None})
    else:
        yield word_problem(text)


def block_problems(language: str, text: str) -> Iterator[str]:
    if language in ("bash", ""):
        lines = text.replace("\\\n", " ").splitlines()
        for line in lines:
            if language or COMMAND.match(line):
                yield from command_problems(line)
    elif language == "yaml":
        yield from key_problems(yaml.safe_load(text))
    elif language == "python":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in PACKAGES:
                yield from (class_problem(f"{node.module}.{alias.name}") for alias in node.names)
    elif language != "text":
        yield f"a block of {language}: what is that?"


def link_problem(target: str, page: Path) -> str:
    name, _, anchor = target.partition("#")
    linked = page.parent / name if name else page
    if "://" in target or not linked.exists():
        return "" if "://" in target else f"no file {target}"
    headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
    return "" if not anchor or anchor in map(slug, headings) else f"no heading {target}"


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def problems(text: str, page: Path = README) -> list[str]:
    """What a page names that does not exist."""
    found: list[str] = []
    for _, language, block in FENCE.findall(text):
        found += block_problems(language, textwrap.dedent(block))
    rest = FENCE.sub("", text)
    for span in SPAN.findall(rest):
        found += [f"{problem} ({span})" for problem in span_problems(" ".join(span.split())) if problem]
    found += [link_problem(target, page) for target in LINK.findall(SPAN.sub("", rest))]
    return [problem for problem in found if problem]
