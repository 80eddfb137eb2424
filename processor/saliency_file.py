"""The saliency table as a ``.npy`` file (K, S), as the official code has it (docs/method.md, "Official files")."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import torch

from feeders.files import write_atomically
from shapmix import Mixer, ShapMix

from .errors import ConfigError

MARK = b"crc32"  # after the array; then its CRC-32 in 4 bytes. Official files have none


def write_table(path: Path, mixer: Mixer | None) -> None:
    """Writes the table (K, S) of a mixer that has one; float32."""
    if isinstance(mixer, ShapMix) and mixer.guided:
        content = io.BytesIO()
        np.save(content, mixer.saliency.table.cpu().float().numpy(), allow_pickle=False)
        array = content.getvalue()
        write_atomically(path, array + MARK + zlib.crc32(array).to_bytes(4, "little"))  # numpy stops before the mark


def read_table(path: Path, mixer: Mixer) -> None:
    """Fills the table of a mixer from such a file; a mixer without one stays as it is.

    Raises:
        ConfigError: the file is missing, damaged, or holds a table of other classes or coalitions, or of other numbers
            than finite ones.
    """
    if not (isinstance(mixer, ShapMix) and mixer.guided):
        return
    try:
        array, mark, crc32 = path.read_bytes().rpartition(MARK)
        if mark and crc32 != zlib.crc32(array).to_bytes(4, "little"):
            raise ValueError("it has changed since it was written: its checksum is another")
        content = io.BytesIO(array if mark else crc32)
        table = np.load(content, allow_pickle=False)
        if content.read(1):
            raise ValueError("it goes on after the array")
    except Exception as error:  # numpy parses the header as Python text; of a damaged one it may raise anything
        raise ConfigError(f"dist_weights {path} cannot be read as a .npy file: {error}") from error
    wanted = tuple(mixer.saliency.table.shape)
    if not isinstance(table, np.ndarray) or table.dtype.kind not in "fiu" or table.shape != wanted:
        got = f"{table.dtype} {table.shape}" if isinstance(table, np.ndarray) else "several arrays"
        raise ConfigError(f"dist_weights {path} holds {got}, wanted numbers of shape {wanted}: classes, coalitions")
    if not np.isfinite(table).all():
        raise ConfigError(f"dist_weights {path} holds numbers that are not finite; write the table again")
    mixer.saliency.table.copy_(torch.from_numpy(table.astype(np.float64)))
    mixer.saliency.initial.zero_()  # no entry holds a share of the initial value
