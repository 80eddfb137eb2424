"""A trained network for other programs: ``python -m tools.export work_dir/demo --format onnx``

ONNX: one file that takes whole sequences and gives logits; onnxruntime has given the logits of torch before it is
written. safetensors: the weights, with all that this program needs to use them, also as ``--weights``. docs/export.md
says how to use both.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from processor.command_line import add_plugin, run_command
from processor.export import OPSET, ExportError, export_onnx, export_safetensors
from processor.host import say
from processor.recognition import trained_network
from processor.weights import find_weights
from processor.zoo import PREFIX

FORMATS = ("onnx", "safetensors")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "weights", metavar="WEIGHTS", help="a run's folder, whose last.pt is taken, a checkpoint, or zoo:NAME"
    )
    options.add_argument("--format", choices=FORMATS, required=True)
    options.add_argument(
        "--out", type=Path, metavar="FILE", help="by default network.onnx beside the weights; of zoo:NAME NAME.onnx"
    )
    options.add_argument("--opset", type=int, help=f"version of ONNX's operators, by default {OPSET}")
    add_plugin(options)
    return options


def run(arguments: argparse.Namespace) -> None:
    """Writes one file and prints where it is."""
    source, name = find_weights(arguments.weights), f"network.{arguments.format}"
    beside = source.with_name(name)
    if arguments.weights.startswith(PREFIX):  # whose folder is the program's
        beside = Path(f"{arguments.weights.removeprefix(PREFIX)}.{arguments.format}")
    out = arguments.out or beside
    if out.is_dir():
        raise ExportError(f"--out {out} is a folder; name a file in it, such as {out / name}")
    if out.exists() and out.samefile(source):
        raise ExportError(f"{out} is what is exported; name another file with --out")
    if arguments.opset is not None and arguments.format != "onnx":
        raise ExportError("--opset is for --format onnx")
    card, network = trained_network(arguments.weights, arguments.plugin)
    if arguments.format == "safetensors":
        export_safetensors(out, card, network)
        say(str(out))
    else:
        largest = export_onnx(out, card, network, arguments.opset or OPSET, arguments.plugin)
        say(f"{out}\nlogits of onnxruntime are within {largest:.1g} of torch's")


main = partial(run_command, run, parser())

if __name__ == "__main__":
    sys.exit(main())
