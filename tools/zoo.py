"""Trained networks that lie in the repository: ``python -m tools.zoo``

Prints the name, data and figure of each; ``--weights zoo:NAME`` uses one. With --add, a finished run becomes an entry:
``python -m tools.zoo --add work_dir/demo --name demo --data "synthetic bodies"``. Its weights, in float16 where they
are else too large, are tested again, and that figure is the entry's. Then ``python -m tools.generate`` writes the table
of docs/zoo.md.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from processor.command_line import run_command
from processor.errors import ConfigError
from processor.host import say
from processor.zoo import PREFIX, ZOO, read_index, summary


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--zoo", type=Path, default=ZOO, metavar="FOLDER", help="default: that of the repository")
    options.add_argument("--add", type=Path, metavar="RUN", help="folder of a finished run, which becomes an entry")
    options.add_argument("--name", help="of the entry that --add makes: small letters, digits and _")
    options.add_argument("--data", help="what that run was trained on, in words")
    options.add_argument("--overwrite", action="store_true", help="replace an entry of this name")
    return options


def run(arguments: argparse.Namespace) -> None:
    """Lists the entries, or adds one."""
    if arguments.add is None:
        if arguments.name or arguments.data or arguments.overwrite:
            raise ConfigError("--name, --data and --overwrite belong to --add RUN; without it the entries are listed")
        for entry in read_index(arguments.zoo).values():
            say(f"{PREFIX}{entry.name}\n    {entry.data}; {summary(entry)}")
        return
    if not arguments.name or not arguments.data:
        raise ConfigError("--add needs --name NAME and --data TEXT: what the run was trained on")
    from processor.zoo_entry import add  # takes a second

    entry = add(arguments.add, arguments.name, arguments.data, arguments.zoo, arguments.overwrite)
    size = entry.file(arguments.zoo).stat().st_size
    say(f"{PREFIX}{entry.name}: {size} bytes in {entry.dtype}; {summary(entry)}. Now: python -m tools.generate")


main = partial(run_command, run, parser())

if __name__ == "__main__":
    sys.exit(main())
