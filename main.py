"""Command line of Shap-Mix: ``python main.py --config config/demo.yaml``. Parses, validates, hands over."""

from __future__ import annotations

import argparse
import os
import sys
from signal import SIGINT
from typing import Any

from processor.config import (
    choices,
    holds_many,
    is_text,
    load_config,
    parse_value,
    schema_keys,
    split_assignment,
)
from processor.distributed import leave
from processor.processor import Processor
from processor.run_folder import open_log

FLAGS = ("overwrite",)
PLAIN = ("config", "plugin", "set")


def parser() -> argparse.ArgumentParser:
    """One option for every key of the schema, and --config, --plugin, --set."""
    options = argparse.ArgumentParser(
        description="Train, test or describe a long-tailed skeleton action recogniser. Every key of the YAML is also "
        "an option; command line > YAML > default.",
        allow_abbrev=False,
    )
    options.add_argument(
        "--config",
        required=True,
        nargs="+",
        help="YAML file, such as config/demo.yaml; further ones lie over it, such as config/methods/ldam_drw.yaml",
    )
    options.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="a.b=c for any key")
    options.add_argument("--plugin", action="append", default=[], help="package of yours that class paths may name")
    for key, meaning in schema_keys().items():
        text = (meaning or "as in CTR-GCN's YAML").replace("%", "%%")
        if key in FLAGS:
            options.add_argument(f"--{key}", action="store_const", const=True, help=text)
        else:
            names = sorted({f"--{key}", f"--{key.replace('_', '-')}"}, reverse=True)
            many = "+" if holds_many(key) else None
            options.add_argument(*names, dest=key, nargs=many, choices=choices(key) or None, help=text)
    return options


def overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """Dotted keys and values of the command line."""
    found: dict[str, Any] = {}
    for key, words in vars(arguments).items():
        if key in PLAIN or words is None:
            continue
        if isinstance(words, list) and all("=" in word for word in words):  # --train_feeder_args bone=True
            found.update({f"{key}.{name}": value for name, value in map(split_assignment, words)})
        elif isinstance(words, list):
            found[key] = parse_value(words[0]) if len(words) == 1 else [parse_value(word) for word in words]
        else:
            found[key] = words if isinstance(words, bool) or is_text(key) else parse_value(words)
    found.update(map(split_assignment, arguments.set))
    return found


def main(words: list[str] | None = None) -> int:
    """Runs one command line; returns the exit code (2: something that the user can mend)."""
    open_log(None, console=os.environ.get("RANK", "0") == "0")
    arguments = parser().parse_args(words)
    try:
        config = load_config(arguments.config, overrides(arguments), arguments.plugin)
        return Processor(config).start()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + SIGINT


if __name__ == "__main__":
    leave(main())
