"""Input that reaches more and more code of a reader: ``python -m tools.faults.guided csv --minutes 10``.

What is read are the targets of tools.faults.fuzz. It ends with the first input that is lost, which it leaves in the
folder --out; what it has learnt is there too, and the same command goes on from it. It needs ``pip install atheris``,
which measures what code an input reaches.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

SLOW = 20  # seconds after which an input counts as a hang
INSTRUMENTED = ["feeders", "processor", "shapmix"]


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("target", help="csv, json, skeleton, stream, config, pickle, ...")
    options.add_argument("--minutes", type=float, default=10, help="how long (default 10)")
    folder = Path("work_dir/guided")
    options.add_argument("--out", type=Path, default=folder, metavar="FOLDER", help=f"default: {folder}")
    return options


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    given = parser().parse_args()
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=INSTRUMENTED):
        fuzz: Any = importlib.import_module("tools.faults.fuzz")
    logging.disable(logging.CRITICAL)
    found = {target.name: target for target in fuzz.targets(Path(tempfile.mkdtemp()))}
    if given.target not in found:
        sys.exit(f"error: there is no target {given.target}; there are {', '.join(found)}")
    target, learnt = found[given.target], given.out / given.target
    learnt.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(target.whole):
        (learnt / f"whole_{number}").write_bytes(content)

    def one(content: bytes) -> None:
        outcome = target.give(content)
        assert outcome.fate != "lost", outcome.detail

    limits = [f"-max_total_time={60 * given.minutes:.0f}", f"-timeout={SLOW}", "-rss_limit_mb=4096"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={given.out / given.target}_", str(learnt)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
