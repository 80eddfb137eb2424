"""A config for your data, with a reason for each value: ``python -m tools.suggest data/mine``

Writes ``data/mine.yaml``, which lies over ``config/own_data.yaml``, and prints the command that trains with it.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from feeders.files import write_atomically
from feeders.inspection import Inspection
from feeders.store import DataError, SkeletonStore
from processor.command_line import run_command
from processor.host import say
from processor.suggestion import as_yaml, default_path, suggest


def main(words: list[str] | None = None) -> int:
    """Runs one command line; returns the exit code."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("store", type=Path, help="of tools.convert, with splits")
    options.add_argument("--out", type=Path, help="the YAML file; by default STORE.yaml beside the store")
    options.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="what it is to be trained on"
    )
    options.add_argument("--overwrite", action="store_true", help="replace another file of that name")
    return run_command(run, options, words)


def run(arguments: argparse.Namespace) -> None:
    """Writes the config, prints it and the command."""
    store = SkeletonStore(arguments.store)
    data = Inspection(store, partial(tqdm, desc="inspecting", unit="sequence", disable=None))
    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    out = arguments.out or default_path(arguments.store)
    text = as_yaml(suggest(data, device), f"For {arguments.store}. Lies over config/own_data.yaml.")
    if out.exists() and not arguments.overwrite and out.read_text(encoding="utf-8") != text:
        raise DataError(f"{out} exists and says something else; choose another --out, or --overwrite it")
    write_atomically(out, text.encode())
    say(f"{text}\n{out}\npython main.py --config config/own_data.yaml {out}")


if __name__ == "__main__":
    sys.exit(main())
