"""A trained network as an ONNX file that takes whole sequences, or as a safetensors file. See docs/export.md.

An ONNX file computes what the feeder of the test does once it has chosen frames, then the network: from the values of
feeders.feeder.Whole to logits. It is written only where onnxruntime gives the logits that torch gives.

Shapes: N batch, C coordinates, T frames shown, L frames of a sequence, V joints, M people, K classes.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from feeders.feeder import StoreFeeder, Whole
from feeders.files import write_atomically
from feeders.store import Sample, SkeletonStore
from model.layers import Fusible

from .card import Card
from .config_files import import_class
from .safetensors_file import save_safetensors

log = logging.getLogger(__name__)
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 18  # the lowest that torch.onnx writes
BATCHES = (1, 3, 64)
TOLERANCE = 1e-4  # of the largest logit, and at least of 1
LONGEST = 3  # times T: frames of the made-up sequences
IMAGE = 480, 640  # height and width in pixels
SEED = 0
INPUT = "x"  # of a file that begins with what the network takes


class ExportError(ValueError):
    """A network that cannot be exported: the message says why and what to do."""


class Exported(nn.Module):
    """What an ONNX file computes: logits (N, K) of the values of ``inputs``, in their order.

    Args:
        network: x (N, C, T, V, M) -> logits (N, K), or several values of which they are the first.
        feeder: makes x of whole sequences; None where the file begins with x.
        inputs: names of what is given: fields of Whole, or ``x``.
    """

    def __init__(self, network: nn.Module, feeder: StoreFeeder[Any] | None, inputs: Sequence[str]) -> None:
        super().__init__()
        self.network, self.feeder, self.inputs = network, feeder, tuple(inputs)

    def forward(self, *values: Tensor) -> Tensor:
        x = values[0]
        if self.feeder is not None:
            x = self.feeder.whole_view(Whole(**dict(zip(self.inputs, values, strict=True))))
        logits: Tensor = self.network(x)
        return logits


def export_onnx(path: Path, card: Card, network: nn.Module, opset: int = OPSET, plugins: Sequence[str] = ()) -> float:
    """Writes a network in evaluation mode as an ONNX file, once onnxruntime agrees with torch.

    Cost: forward passes of 2 (N of BATCHES) samples each, and a trace of the network: half a minute on one core.

    Returns:
        the largest difference between logits of torch and onnxruntime.

    Raises:
        ExportError: packages are missing, the opset is not one that torch writes, the network cannot be exported, or
            the file does not give the logits of torch. Nothing is written.
    """
    absent = [name for name in PACKAGES if find_spec(name) is None]
    if absent:
        raise ExportError(f"ONNX needs {', '.join(absent)}: pip install '.[export]'")
    if opset < OPSET:
        raise ExportError(f"opset {opset} is too old: {OPSET} is the lowest that torch writes; leave --opset out")
    network = plain(network)
    feeder = feeder_of(card, max(BATCHES), plugins)
    given = [inputs_of(card, feeder, batch) for batch in BATCHES]
    exported = Exported(network, feeder, list(given[0])).eval()
    with torch.no_grad():
        wanted = [logits_of(card, network, feeder, batch) for batch in BATCHES]
        exported(*given[1].values())  # so that what the project keeps between calls is not made while torch traces
        model = convert(exported, given[1], opset)
    for key, value in {**metadata(card, opset), "inputs": json.dumps(list(given[0]))}.items():
        model.metadata_props.add(key=key, value=value)
    content = model.SerializeToString()
    session = open_session(content)
    largest = 0.0
    for values, logits in zip(given, wanted, strict=True):
        largest = max(largest, difference(session, values, logits))
    write_atomically(path, content)
    return largest


def export_safetensors(path: Path, card: Card, network: nn.Module) -> None:
    """Writes the weights of a network, its card and its config: a file that ``--weights`` takes like a checkpoint."""
    save_safetensors(path, {"model": network.state_dict(), "card": card.plain(), "config": card.config})


def plain(network: nn.Module) -> nn.Module:
    """A copy on the CPU in float32 and evaluation mode, whose layers compute their plain equations.

    onnxruntime joins convolutions and batch norms by itself, and what model.fused does for torch would be in its way.
    """
    network = copy.deepcopy(network).to("cpu", torch.float32).eval()
    for module in network.modules():
        if isinstance(module, Fusible):
            module.fused = False
    return network


def feeder_of(card: Card, number: int, plugins: Sequence[str]) -> StoreFeeder[Any] | None:
    """The view of a card over ``number`` made-up sequences; None where the card has none, or none as tensors alone."""
    if card.view is None:
        log.warning("the network was trained on a Dataset of your own: the file begins with what the network takes")
        return None
    feeder: type[StoreFeeder[Any]] = import_class(card.config["feeder"], plugins)
    found = feeder.from_view(card.view, SkeletonStore.of(made_up(card, number)))
    if type(found).whole_view is StoreFeeder.whole_view:
        log.warning("%s has no whole_view: the file begins with what the network takes", card.config["feeder"])
        return None
    return found


def made_up(card: Card, number: int) -> list[Sample]:
    """Sequences of 2 to 3T frames; of every second one, only the first person is there."""
    rng = np.random.default_rng(SEED)
    _, frames, joints, people = card.sample_shape
    samples = []
    for row in range(number):
        values = rng.random((int(rng.integers(2, LONGEST * frames)), people, joints, 3)).astype(np.float32)
        if card.dims == 2:
            values[..., :2] *= IMAGE[::-1]
        values[:, 1 + row % 2 * people :] = 0
        columns = dict(zip(("height", "width"), IMAGE, strict=True)) if card.dims == 2 else {}
        samples.append(Sample(str(row), 0, values, columns=columns))
    return samples


def inputs_of(card: Card, feeder: StoreFeeder[Any] | None, number: int) -> dict[str, Tensor]:
    """What the exported network is given, by name, of the first ``number`` rows."""
    if feeder is None:
        return {INPUT: torch.randn(number, *card.sample_shape, generator=torch.Generator().manual_seed(SEED))}
    values = vars(feeder.whole(np.arange(number)))
    return {name: value[:number] for name, value in values.items() if value is not None}  # some of several clips


def logits_of(card: Card, network: nn.Module, feeder: StoreFeeder[Any] | None, number: int) -> Tensor:
    """Torch's logits (N, K) of the same rows, by way of the feeder's batches."""
    if feeder is None:
        return network(inputs_of(card, None, number)[INPUT])
    return network(feeder.batch(np.arange(number))[:number])


def convert(exported: Exported, values: Mapping[str, Tensor], opset: int) -> Any:
    """An ``onnx.ModelProto`` of these inputs, of any batch size and length; ExportError where torch cannot."""
    batch, longest = torch.export.Dim("batch"), torch.export.Dim("longest", min=2)
    shapes: list[dict[int, Any]] = [{0: batch, 1: longest} if name == "sequence" else {0: batch} for name in values]
    try:
        with _silent():
            program = torch.onnx.export(
                exported, tuple(values.values()), dynamo=True, opset_version=opset, verbose=False,
                input_names=list(values), output_names=["logits"], dynamic_shapes={"values": tuple(shapes)},
            )  # fmt: skip
    except Exception as error:  # of a network of the user's own torch may raise anything
        raise ExportError(f"the network cannot be exported: {_reason(error)}") from error
    assert program is not None
    model = program.model_proto
    written = {entry.domain: entry.version for entry in model.opset_import}[""]
    if written != opset:
        raise ExportError(f"opset {opset} is not one that this version of torch writes; leave --opset out")
    forget_origin(model)
    return model


def forget_origin(model: Any) -> None:
    """Removes what torch notes of the source code, with paths of this machine; most of a small network's file."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def open_session(content: bytes, threads: int = 1) -> Any:
    """A session of onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"onnxruntime does not take the file: {_first_line(error)}; try another --opset") from error


def difference(session: Any, values: Mapping[str, Tensor], wanted: Tensor) -> float:
    """The largest difference of logits; ExportError where it is more than TOLERANCE."""
    try:
        found = session.run(None, {name: value.numpy() for name, value in values.items()})[0]
    except Exception as error:
        raise ExportError(
            f"the exported network fails on {len(wanted)} samples, where torch does not: {_first_line(error)}. A "
            "network of your own must take any batch size: x.shape[0], not len(x) or a number"
        ) from error
    largest = float(np.abs(found - wanted.numpy()).max()) if found.shape == wanted.shape else float("inf")
    limit = TOLERANCE * max(1.0, float(wanted.abs().max()))
    if not largest <= limit:
        raise ExportError(
            f"onnxruntime's logits of {len(wanted)} samples are {largest:.2g} from torch's, more than {limit:.2g}; "
            "nothing was written. A network or feeder of your own may do what a trace cannot hold"
        )
    return largest


def metadata(card: Card, opset: int) -> dict[str, str]:
    """What an ONNX file says of itself, each value as JSON."""
    skeleton, adjustment = card.skeleton, card.adjustment
    values = {
        "made_by": f"shapmix {card.version}",
        "layout": None if skeleton is None else skeleton.name,
        "joints": None if skeleton is None else skeleton.joint_names,
        "class_names": card.class_names,
        "class_counts": card.class_counts,
        "sample_shape": card.sample_shape,
        "dims": card.dims,
        "units": "x and y in pixels, score" if card.dims == 2 else "x, y, z in the unit of the training set",
        "feeder": card.config["feeder"],
        "view": card.view,
        "temperature": card.temperature,
        "adjustment": None if adjustment is None else adjustment.tolist(),
        "opset": opset,
    }
    return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing of what torch prints, logs and warns of, which is for those who write it."""
    before, unread = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(unread), redirect_stderr(unread):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _reason(error: BaseException) -> str:
    """The operation that torch cannot export, or the first words of the last cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error)
    missing = re.search(r"op='([\w.:]+)'", text)
    if missing:
        return f"ONNX has no {missing[1]}; replace that operation in the network"
    line = re.search(r'File "([^"]+)", line (\d+), in (\S+)\n\s*(.+)', text)
    where = f" ({line[1]}, line {line[2]}, in {line[3]}: {line[4].strip()})" if line else ""
    return f"{_first_line(error)}{where}"


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
