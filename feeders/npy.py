"""The header of numpy's array files, read so that no damaged one raises anything but ValueError."""

from __future__ import annotations

import zipfile
import zlib
from typing import IO

import numpy as np


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it lies column by column, and type; ValueError where this is not a header."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        return read(file)
    except (OSError, zipfile.BadZipFile, zlib.error):
        raise
    except Exception as error:  # numpy parses it as Python text; its parsers may raise anything
        raise ValueError(f"its header is damaged: {error}") from error
