"""Frames that stay on the device: a batch is then an index and the transforms, and nothing is read from disk.

Shapes: N batch, C coordinates, T frames of a view, V joints, M people, F frames of all sequences of a split.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .memory import ran_out
from .store import DataError, SkeletonStore
from .transforms import to_device

PACKED_AT_ONCE = 2**26  # bytes


class ResidentFrames:
    """The frames of the sequences ``members`` of a store, packed end to end in the memory of a device.

    Attributes:
        frames: (F, C, M, V) on the device, in the store's precision. All joints of a coordinate lie side by side, as
            transforms.rotate wants them.
        first: (n,) where each of the store's sequences begins.

    Raises:
        DataError: the device has too little memory.
    """

    def __init__(self, store: SkeletonStore, members: np.ndarray, device: torch.device) -> None:
        lengths = store.lengths[members]
        ends = np.cumsum(lengths)
        self.first = np.full(len(store), -(2**62))  # what is not here has no place
        self.first[members] = ends - lengths
        people, joints, channels = store.frames.shape[1:]
        dtype = torch.from_numpy(store.frames[:0].copy()).dtype
        try:
            self.frames = torch.empty(int(ends[-1]), channels, people, joints, dtype=dtype, device=device)
            parts = np.searchsorted(ends, np.arange(0, ends[-1], max(1, PACKED_AT_ONCE // store.frames[:1].nbytes)))
            for some in np.split(members, np.unique(parts)[1:]):
                frames = torch.from_numpy(np.concatenate([store.sequence(member) for member in some]))
                begin = self.first[some[0]]
                self.frames[begin : begin + len(frames)] = frames.to(device).permute(0, 3, 1, 2)
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            raise DataError(
                f"{store.path}: {packed_bytes(store, members) / 2**20:.0f} MB of frames do not fit into the memory of "
                f"{device}; set device_resident: false ({error})"
            ) from error

    def read(self, members: np.ndarray, frames: np.ndarray) -> Tensor:
        """Frames (N, T) of stored sequences -> (N, C, T, V, M); a copy that may be changed."""
        places = to_device(self.first[members][:, None] + frames, self.frames.device)
        found = self.frames.flatten(1).index_select(0, places.flatten())
        return found.view(*frames.shape, *self.frames.shape[1:]).permute(0, 2, 1, 4, 3)


def packed_bytes(store: SkeletonStore, members: np.ndarray) -> int:
    """Memory that the frames of some sequences of a store take."""
    return int(store.lengths[members].sum()) * store.frames[:1].nbytes
