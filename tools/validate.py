"""Is a store fit for training? ``python -m tools.validate data/mine``

Prints the counts of each class in each split, then what it found: errors, with which training would fail, warnings and
notes, each with sequences that it is about and what to do. Ends with 1 where there is an error. A picture of the
skeleton, as the layout understands it, is written for a person to look at.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

from tabulate import tabulate
from tqdm import tqdm

from feeders.files import write_atomically
from feeders.inspection import Finding, Inspection, findings
from feeders.longtail import shot_groups
from feeders.store import SkeletonStore
from processor.command_line import run_command
from processor.host import say
from processor.study.layout_picture import layout_picture, png

SHOWN = 5  # ids of a finding
PICTURE = "skeleton.png"


def main(words: list[str] | None = None) -> int:
    """Runs one command line; returns the exit code."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("store", type=Path, help="of tools.convert, or of another command that prepares one")
    options.add_argument("--json", action="store_true", help="print everything as JSON, with all ids")
    options.add_argument("--picture", type=Path, help=f"where the picture is written; by default STORE/{PICTURE}")
    options.add_argument("--many", type=int, default=100, help="classes with more training sequences are many-shot")
    options.add_argument("--few", type=int, default=20, help="classes with fewer are few-shot")
    return run_command(run, options, words)


def run(arguments: argparse.Namespace) -> int:
    """Inspects the store, prints what was found; 1 where training would fail."""
    progress = partial(tqdm, desc="inspecting", unit="sequence", disable=None)
    data = Inspection(SkeletonStore(arguments.store), progress)
    found = findings(data)
    picture = arguments.picture or arguments.store / PICTURE
    write_atomically(picture, png(layout_picture(data.layout, data.sample(1)[0], data.dims)))
    if arguments.json:
        about = {**data.as_dict(), "findings": [asdict(finding) for finding in found], "picture": str(picture)}
        say(json.dumps(about, indent=1, ensure_ascii=False))
    else:
        look = f"look at {picture}: is every joint in its place?"
        say(f"{table(data, arguments.many, arguments.few)}\n\n{sentences(found)}\n\n{look}")
    return int(any(finding.level == "error" for finding in found))


def table(data: Inspection, many: int, few: int) -> str:
    """Sequences of each class in each split, and its shot group in training; lengths; people."""
    training = next((split for split in data.counts if "train" in split), "all")
    groups = shot_groups(data.counts[training].tolist(), many, few)
    group = {label: name for name, members in groups.items() for label in members}
    rows = [
        [name, *(int(counts[label]) for counts in data.counts.values()), group[label]]
        for label, name in enumerate(data.class_names)
    ]
    rows.append(["all", *(int(counts.sum()) for counts in data.counts.values()), ""])
    lengths = data.store.lengths
    low, high = int(lengths.min()), int(lengths.max())
    return (
        f"{tabulate(rows, ['class', *data.counts, 'group'])}\n\n{len(data.store)} sequences of {low} to {high} frames "
        f"(half have up to {int(sorted(lengths)[len(lengths) // 2])}), {data.layout.num_joints} joints "
        f"({data.layout.name}), {data.dims} coordinates, up to {data.store.frames.shape[1]} people"
    )


def sentences(found: list[Finding]) -> str:
    """A paragraph for each finding."""
    lines = []
    for finding in found:
        some = ", ".join(finding.ids[:SHOWN]) + (", ..." if len(finding.ids) > SHOWN else "")
        lines.append(f"{finding.level}: {finding.what}{f' ({some})' if some else ''}\n    {finding.advice}")
    return "\n".join(lines) or "nothing wrong was found"


if __name__ == "__main__":
    sys.exit(main())
