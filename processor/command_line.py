"""The command line: main.py's options, one for each key of the schema, and what all commands have in common."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from signal import SIGINT
from typing import Any, get_args

from . import STOPPED
from .config import Config
from .config_files import load_config, nearest
from .distributed import leave
from .errors import BUSY, UNREAD, BusyError, ConfigError, UnreadError, shown
from .host import drop_output, say, take_any_console
from .logs import Stream, open_log
from .official import OFFICIAL_KEYS
from .processor import Processor
from .user_code import explained
from .yaml_text import parse_yaml

OWN_OPTIONS = ("config", "plugin", "set")
SWITCHES = ("overwrite",)  # keys whose option needs no value
NEXT_ASSIGNMENT = re.compile(r",(?=\s*[\w.]+=)")

Work = Callable[[argparse.Namespace], int | None]


def run_command(
    work: Work, options: argparse.ArgumentParser, words: Sequence[str] | None = None, log_to: Stream = "stdout"
) -> int:
    """Parses a command line, does the work and returns the exit code.

    0 or what ``work`` returns; 2 for errors that the user can fix, also in code of the user's own, printed in one line;
    75 where another process trains in the work_dir; 130 for Ctrl-C; 141 where nobody reads the output any more, without
    a word. Only the main process of several prints the log.
    """
    take_any_console()
    open_log(None, os.environ.get("RANK", "0") == "0", log_to)
    arguments = parse(options, words)
    try:
        find_plugins(getattr(arguments, "plugin", []))
        return work(arguments) or 0
    except UnreadError:
        drop_output()
        return UNREAD
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        return 128 + SIGINT
    except Exception as error:
        message = explained(error)
        if message is None:
            raise
        say(f"error: {message}", sys.stderr)
        return BUSY if isinstance(error, BusyError) else 2


def parse(options: argparse.ArgumentParser, words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses a command line, also one with subcommands.

    An unknown option ends it with the nearest known one. So does an empty text: a path of that kind would be the
    current folder.
    """
    module = getattr(sys.modules["__main__"], "__spec__", None)
    if module is not None:  # else a script, whose name argparse shows
        options.prog = f"python -m {module.name.removesuffix('.__main__')}"
    words = sys.argv[1:] if words is None else words
    for before, word in zip(["", *words], words, strict=False):
        if not word or (word.startswith("--") and word.endswith("=")):
            where = f" after {word or before}" if word or before else ""
            options.exit(2, f"error: empty text{where}: is a shell variable not set? Write . for this folder\n")
    arguments, unknown = options.parse_known_args(words)
    if unknown:
        actions = list(options._actions)
        for action in options._actions:
            if isinstance(action, argparse._SubParsersAction):
                actions += action.choices[getattr(arguments, action.dest)]._actions
        known = [name for action in actions for name in action.option_strings]
        options.exit(2, f"error: unknown option {unknown[0]}{nearest(unknown[0], known, 'see --help')}\n")
    return arguments


def add_plugin(options: argparse.ArgumentParser) -> None:
    """``--plugin``."""
    options.add_argument("--plugin", action="append", default=[], help="your package that class paths may name")


def find_plugins(names: Sequence[str]) -> None:
    """Packages that ``--plugin`` names may lie in the current folder; ConfigError where one is not there."""
    if names and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for name in names:
        package = name.partition(".")[0]
        if not package.isidentifier() or find_spec(package) is None:
            raise ConfigError(f"--plugin {name}: no package of this name is installed or lies in this folder")


def main(words: Sequence[str] | None = None) -> int:
    """Trains, tests or describes as one command line says; returns the exit code."""
    return run_command(_run, parser(), words)


def console() -> None:
    """The command ``shapmix-train``."""
    leave(main())


def _run(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config, overrides(arguments), arguments.plugin)
    return Processor(config).start()


def parser() -> argparse.ArgumentParser:
    """One option for every key of the schema, and --config, --plugin, --set."""
    options = argparse.ArgumentParser(
        usage="%(prog)s --config FILE.yaml [FILE.yaml ...] [--KEY VALUE ...] [--set KEY=VALUE ...]",
        description="Train, test or describe a long-tailed skeleton action recogniser. Every key of the YAML is also "
        "an option; command line > YAML > default.",
        allow_abbrev=False,
    )
    options.add_argument(
        "--config",
        required=True,
        nargs="+",
        help="YAML file, such as config/demo.yaml; further ones override its keys (config/methods/ldam_drw.yaml)",
    )
    options.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="a.b=c for any key")
    add_plugin(options)
    meanings = {key: field.description or "" for key, field in Config.model_fields.items()} | OFFICIAL_KEYS
    for key in (key for key in meanings if key not in ("config", "plugins")):
        names, text = sorted({f"--{key}", f"--{key.replace('_', '-')}"}, reverse=True), meanings[key].replace("%", "%%")
        if key in SWITCHES:
            options.add_argument(*names, dest=key, action="store_const", const=True, help=text)
        else:
            many = "+" if _holds_many(key) else None
            options.add_argument(*names, dest=key, nargs=many, choices=_words(key) or None, help=text)
    return options


def overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """Dotted keys and values of the command line."""
    found: dict[str, Any] = {}
    for key, words in vars(arguments).items():
        if key in OWN_OPTIONS or words is None:
            continue
        if isinstance(words, list) and all("=" in word for word in words):  # --train_feeder_args bone=True
            several = (word.strip() for many in words for word in NEXT_ASSIGNMENT.split(many))  # "bone=True,vel=True"
            found.update({f"{key}.{name}": value for name, value in map(split_assignment, several)})
        elif isinstance(words, list):
            several_values = [parse_value(word, f"--{key}") for word in words]
            found[key] = several_values[0] if len(words) == 1 else several_values
        else:
            found[key] = words if isinstance(words, bool) or _is_text(key) else parse_value(words, f"--{key}")
    found.update(map(split_assignment, arguments.set))
    return found


def parse_value(text: str, option: str) -> Any:
    """A value of an option of the command line, read as YAML: ``0.1``, ``true``, ``[1, 2]``, ``bone``."""
    return parse_yaml(text, f"{option}: the value {shown(text)}")


def split_assignment(word: str) -> tuple[str, Any]:
    """``a.b=c`` -> (a.b, value of c)."""
    key, equals, value = word.partition("=")
    if not equals or not key:
        raise ConfigError(f"{word!r}: write KEY=VALUE, such as base_lr=0.05 or train_feeder_args.stream=bone")
    return key, parse_value(value, f"--set {key}")


def _is_text(key: str) -> bool:
    """Does the key hold plain text, which is not to be read as YAML?"""
    return key in Config.model_fields and Config.model_fields[key].annotation in (str, str | None)


def _holds_many(key: str) -> bool:
    """May several words follow the key on the command line?"""
    if key == "device":  # the official code lists numbers
        return True
    if key not in Config.model_fields or _is_text(key):
        return False
    return not isinstance(Config.model_fields[key].default, (str, int, float, type(None)))


def _words(key: str) -> tuple[str, ...]:
    """The allowed words of a key, or () where any is allowed."""
    if key == "device" or key not in Config.model_fields:
        return ()
    return tuple(word for word in get_args(Config.model_fields[key].annotation) if isinstance(word, str))
