"""Fuses the scores of several streams: ``python -m tools.ensemble work_dir/{joint,bone,joint_motion,bone_motion}``

Samples are joined by id. Prints each input's accuracy, then that of the weighted sum: overall, by groups and by class.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from functools import partial
from pathlib import Path

from feeders.files import write_atomically
from feeders.transforms import STREAMS
from processor.command_line import run_command
from processor.metrics import table
from processor.scores import ScoreFile, read_labels, read_scores
from processor.study.ensemble import default_weights, fuse, join, read_validation, search_weights

log = logging.getLogger(__name__)


DATASETS = {
    "ntu/xsub": "data/ntu/NTU60_CS.npz",
    "ntu/xview": "data/ntu/NTU60_CV.npz",
    "ntu120/xsub": "data/ntu120/NTU120_CSub.npz",
    "ntu120/xset": "data/ntu120/NTU120_CSet.npz",
    "NW-UCLA": "",  # its names have the labels
}


def parser() -> argparse.ArgumentParser:
    """The command line; also the options of CTR-GCN's ensemble.py."""
    options = argparse.ArgumentParser(description="Fuse the scores of several runs, joined by sample id.")
    add = options.add_argument
    add("runs", nargs="*", type=Path, metavar="RUN", help="a run's folder, a score .npz or an official score .pkl")
    weights = options.add_mutually_exclusive_group()
    default = "0.6 0.6 0.6 0.3 for four (joint, bone, joint motion, bone motion), else equal ones"
    weights.add_argument("--weights", nargs="+", type=float, help=f"one for each RUN; by default {default}")
    weights.add_argument("--search", action="store_true", help="choose the weights on the runs' scores_val.npz")
    weights.add_argument("--alpha", type=float, help="of two: the second one's weight beside 1 (CTR-GCN's option)")
    labels = "score .npz with labels, CTR-GCN's data .npz with y_test, or PYSKL's annotations with --split"
    add("--labels", type=Path, metavar="FILE", help=labels)
    add("--split", help="split of PYSKL's annotations that was tested, such as xsub_val")
    for stream in STREAMS:
        add(f"--{stream.replace('_', '-')}-dir", f"--{stream}_dir", type=Path, metavar="RUN", help="a RUN")
    add("--dataset", choices=list(DATASETS), help="CTR-GCN's way to name its data file in data/ as --labels")
    add("--out", type=Path, metavar="FILE", help="write the fused scores as a score .npz")
    add("--json", type=Path, metavar="FILE", help="write all metrics as JSON")
    return options


def named(arguments: argparse.Namespace) -> tuple[list[Path], ScoreFile | None]:
    """The runs, and the file of labels where there is one."""
    streams = (getattr(arguments, f"{stream}_dir") for stream in STREAMS)
    runs = [*arguments.runs, *(run for run in streams if run is not None)]
    if not runs:
        raise ValueError("name the runs: their folders or score files, or --joint-dir, --bone-dir, ...")
    path = arguments.labels or Path(DATASETS.get(arguments.dataset, ""))
    use = arguments.labels is not None or path.is_file()
    return runs, read_labels(path, arguments.split) if use else None


def ensemble(arguments: argparse.Namespace) -> None:
    """Reads, fuses, prints and writes."""
    runs, labels = named(arguments)
    files = [read_scores(run) for run in runs]
    if arguments.search:
        weights, chosen = search_weights(read_validation(runs, files)), "chosen on the validation scores"
    elif arguments.weights is not None or arguments.alpha is not None:
        weights, chosen = arguments.weights or [1.0, arguments.alpha], "as given"
    else:
        weights, chosen = default_weights(len(files)), "by default"
    fused = fuse(files, weights, labels)
    log.info("%d samples, weights %s", len(fused.ids), chosen)
    inputs = []
    width = max(len(file.source) for file in files)
    for file, weight in zip(join(files, labels), weights, strict=True):
        own = file.metrics()
        inputs.append({"file": file.source, "weight": weight, **own})
        top1, mean = 100 * own["top1"], 100 * own["mean_class_accuracy"]
        log.info("%-*s  weight %g  top-1 %5.1f %%  mean class %5.1f %%", width, file.source, weight, top1, mean)
    metrics = fused.metrics()
    log.info("\n%s", table(metrics, fused.names, fused.class_counts, fused.groups))
    if arguments.out is not None:
        fused.write(arguments.out)
    if arguments.json is not None:
        report = {"weights": list(weights), "weights_are": chosen, "samples": len(fused.ids), "inputs": inputs}
        report |= {"ensemble": metrics, "class_names": fused.names}
        write_atomically(arguments.json, json.dumps(report, indent=1).encode())


main = partial(run_command, ensemble, parser())

if __name__ == "__main__":
    sys.exit(main())
