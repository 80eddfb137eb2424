"""YAML as this project reads and writes it: ``1e-3`` is a number, a key stands once, no file grows in memory.

The only reader of YAML here, so that a value is the same in a recipe, a sweep, a layout, on the command line and in a
run's config.yaml.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from .errors import ConfigError

MAX_DEPTH = 50  # of lists and mappings in each other
MAX_NODES = 50_000  # values of a text, with every alias written out; a pose layout of 133 joints has 1,000
MAX_LENGTH = 2**20  # characters of a text
MAX_DIGITS = 100  # of a whole number; Python refuses more than 4,300 in words of its own
FLOAT = "tag:yaml.org,2002:float"
# What YAML 1.1 takes for text: an exponent without a point or a sign, a sign before the point.
NUMBER = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$|[-+]\.[0-9][0-9_]*$")


class _Loader(yaml.SafeLoader):
    """Plain values only; see the module."""

    depth = number = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A value with all that it holds; too deep or too many are an error as soon as that is seen."""
        self.depth += 1
        self.number += 1
        if self.depth > MAX_DEPTH or self.number > MAX_NODES:
            what = f"{MAX_DEPTH} levels" if self.depth > MAX_DEPTH else f"{MAX_NODES} values"
            raise yaml.MarkedYAMLError(problem=f"more than {what}", problem_mark=self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> Any:
        """The whole text; an error where its aliases would blow it up."""
        node = super().get_single_node()
        if node is not None:
            _written_out(node, {})
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping; an error where a key is written twice. (A key may override one that ``<<`` merges.)"""
        node = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], yaml.ScalarNode] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            before = first.setdefault((key.tag, key.value), key)
            if before is not key:
                problem = f"the key {key.value} is written twice, first in line {before.start_mark.line + 1}"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        return node

    def construct_yaml_int(self, node: Any) -> int:
        """A whole number; an error where it is longer than any that is meant."""
        if len(node.value) > MAX_DIGITS:
            problem = f"a whole number of {len(node.value)} characters"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        number: int = super().construct_yaml_int(node)
        return number


class _Dumper(yaml.SafeDumper):
    """Puts text that looks like a number in quotes."""


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(FLOAT, NUMBER, list("-+.0123456789"))


def _written_out(node: Any, sizes: dict[int, int | None]) -> int:
    """How many values a node holds, aliases written out."""
    if id(node) in sizes:
        size = sizes[id(node)]
        if size is None:
            raise yaml.MarkedYAMLError(problem="an alias inside of what it names", problem_mark=node.start_mark)
        return size
    sizes[id(node)] = None
    inner = node.value if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        inner = [part for pair in node.value for part in pair]
    size = 1 + sum(_written_out(part, sizes) for part in inner)
    if size > MAX_NODES:
        problem = f"more than {MAX_NODES} values, aliases written out"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    sizes[id(node)] = size
    return size


def parse_yaml(text: str, where: object) -> Any:
    """The value of a YAML text: dicts, lists, texts, numbers, true, false, null, dates.

    Args:
        where: file or key, for the message.

    Raises:
        ConfigError: no YAML, a key that stands twice in a mapping, more than ``MAX_DEPTH`` levels, more than
            ``MAX_NODES`` values: with the line; more than ``MAX_LENGTH`` characters.
    """
    if len(text) > MAX_LENGTH:
        raise ConfigError(f"{where} cannot be read as YAML: it has more than {MAX_LENGTH} characters")
    try:
        return _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark, reason = error.problem_mark, f"{error.context or ''} {error.problem or ''}".strip()
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{where} cannot be read as YAML: {place}{reason}") from error
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:  # !!bool maybe, 2024-13-45, !!int ''
        raise ConfigError(f"{where} cannot be read as YAML: {' '.join(str(error).split())}") from error


def yaml_text(value: Any, one_line: bool = False) -> str:
    """The text of a plain value in the given order, which :func:`parse_yaml` reads back."""
    style: dict[str, Any] = {"default_flow_style": True, "width": float("inf")} if one_line else {}
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **style)
