"""Writes the files that follow from the code: ``python -m tools.generate``

config/methods/*.yaml, config/keys/*.yaml and the table in docs/methods.md from processor/methods.py, config/schema.json
(for editors) from processor/config.py, the table in docs/zoo.md from the zoo's index. A test fails where one of them is
out of date.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

from feeders.files import write_atomically
from processor.command_line import run_command
from processor.config import json_schema
from processor.methods import OVERLAYS, methods_table, overlay
from processor.zoo import read_index, zoo_table

MARK = "<!-- written by python -m tools.generate -->\n"


def generated(root: Path) -> dict[Path, str]:
    """Path -> text of all files."""
    texts = {
        root / "config" / folder / f"{name}.yaml": overlay(row)
        for folder, rows in OVERLAYS.items()
        for name, row in rows.items()
    }
    texts[root / "config" / "schema.json"] = json.dumps(json_schema(), indent=1) + "\n"
    for name, table in (("methods", methods_table()), ("zoo", zoo_table(read_index(root / "zoo")))):
        page = root / "docs" / f"{name}.md"
        before, _, after = page.read_text(encoding="utf-8").split(MARK)
        texts[page] = f"{before}{MARK}{table}{MARK}{after}"
    return texts


def run(arguments: argparse.Namespace) -> None:
    """Writes what has changed."""
    for path, text in generated(Path(__file__).parents[1]).items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_atomically(path, text.encode())
            print(path)


main = partial(run_command, run, argparse.ArgumentParser(description=__doc__))

if __name__ == "__main__":
    sys.exit(main())
