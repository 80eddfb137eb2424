"""Causes faults and counts what becomes of them: ``python -m tools.faults --minutes 60 --seed 0``.

Each kind of faults has the same time, and at least one case. The table is what docs/reliability.md shows.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import pkgutil
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tools.faults
from feeders.files import write_atomically
from processor.command_line import parse
from processor.host import usable_cores

from .case import Fate, outcome_of

Counts = Mapping[tuple[str, str], Counter[Fate]]  # of (kind, fault)


def kinds() -> dict[str, Any]:
    """The modules of this package that have cases, by name."""
    names = [module.name for module in pkgutil.iter_modules(tools.faults.__path__) if module.name != "__main__"]
    found = {name: importlib.import_module(f"{tools.faults.__name__}.{name}") for name in names}
    return {name: module for name, module in found.items() if hasattr(module, "cases")}


def parser(names: list[str]) -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=10, help="how long (default 10)")
    options.add_argument("--seed", type=int, default=0, help="of all that is drawn (default 0)")
    options.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    options.add_argument("--out", type=Path, metavar="FILE", help="write the table there as well")
    return options


def as_table(counts: Counts) -> str:
    """Markdown: a row for each fault, and their sums."""
    rows = [["kind", "fault", "caused", "survived", "refused", "lost"], ["---", "---", *4 * ["---:"]]]
    for (kind, fault), found in [*counts.items(), (("all", ""), sum(counts.values(), Counter[Fate]()))]:
        rows.append([kind, fault, str(found.total()), *(str(found[fate]) for fate in ("survived", "refused", "lost"))])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(words: list[str] | None = None) -> int:
    """Causes faults until the time is over; returns 1 where something was lost, which is printed at once."""
    modules = kinds()
    given = parse(parser(list(modules)), words)
    counts: dict[tuple[str, str], Counter[Fate]] = {}
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        places = {kind: Path(folder, kind) for kind in given.only}
        for place in places.values():
            place.mkdir()
        waiting = {kind: modules[kind].cases(random.Random(f"{given.seed} {kind}"), places[kind]) for kind in places}
        spent = dict.fromkeys(waiting, 0.0)  # seconds: a kind whose faults are quick has as much time as the others
        while waiting and (time.monotonic() - begun < 60 * given.minutes or any(spent[kind] == 0 for kind in waiting)):
            kind, before = min(waiting, key=lambda kind: spent[kind]), time.monotonic()
            case = next(waiting[kind], None)
            if case is None:
                del waiting[kind]
                continue
            logging.getLogger().handlers.clear()  # what a case in this process logs is its own
            outcome = outcome_of(case)
            spent[kind] += time.monotonic() - before
            counts.setdefault((kind, case.name.partition(":")[0]), Counter())[outcome.fate] += 1
            if outcome.fate == "lost":
                print(f"lost: {kind}: {case.name}: {outcome.detail}", file=sys.stderr, flush=True)
    took = (time.monotonic() - begun) / 60
    text = f"{as_table(counts)}\n\nSeed {given.seed}, {took:.0f} minutes, {sys.platform}, {usable_cores()} CPU cores.\n"
    print(text)
    if given.out:
        write_atomically(given.out, text.encode())
    return int(any(found["lost"] for found in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
