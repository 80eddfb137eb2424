"""A Dataset and networks as users bring them, right and wrong, for ``--plugin tests``."""

from __future__ import annotations

import os
import random
import signal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, get_worker_info


class Feeder(Dataset):
    """Noise of three classes; the sample of index 5 has the ``fault``, the list of labels ``listed``."""

    def __init__(self, size=12, fault="", shape=(3, 16, 25, 1), seed=0, names="", augment=False, listed=True):
        rng = np.random.default_rng(seed)
        self.x = rng.normal(size=(size, *shape)).astype(np.float32)
        self.fault, self.augment = fault, augment
        self.y = [row % 3 for row in range(size)]
        if fault in ("negative", "large"):
            self.y[5] = {"negative": -1, "large": 3}[fault]
        if listed:
            self.labels = self.y
        if names:
            self.sample_name = [f"{names}{row}" for row in range(size)]

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        x, y = self.x[row], self.y[row]
        if self.augment:
            x = x * np.float32(np.random.uniform(0.5, 2)) + random.random() + torch.rand(1).numpy()  # noqa: NPY002
        if row != 5:
            return x, y, row
        faults = {
            "frames": (x[:, :9], y, row),
            "empty": (x[:, :0], y, row),
            "flat": (x[0], y, row),
            "objects": (x.astype(object), y, row),
            "dict": {"data": x, "label": y},
            "four": (x, x, y, row),
            "alone": x,
            "one_hot": (x, np.eye(3)[y], row),
            "text": (x, "wave", row),
            "fraction": (x, y + 0.5, row),
            "none": (x, None, row),
            "other": (x, (y + 1) % 3, row),
            "nan": (x * np.nan, y, row),
        }
        return faults[self.fault] if self.fault in faults else self.odd(x, y)

    def odd(self, x, y):
        """Unusual but right, or a fault of this very code."""
        if self.fault == "raises":
            return int("x1")
        if self.fault == "killed" and get_worker_info():
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "odd":
            return torch.from_numpy(x.astype(np.float64)), np.int32(y)
        return (x[:, ::-1] if self.fault == "reversed" else x), float(y), "a name"


class Network(nn.Module):
    """One layer over the mean of time and people; what it returns is set by ``kind``."""

    def __init__(self, num_class: int, in_channels: int, num_point: int, kind: str = "pair") -> None:
        super().__init__()
        self.fc = nn.Linear(in_channels * num_point, num_class + (kind == "classes"))
        self.kind = kind
        if kind == "constructor":
            self.fc[0]

    def forward(self, x: Tensor):
        if self.kind == "unpack":
            _, _ = x.shape
        logits = self.fc(x.mean((2, 4)).flatten(1))
        return {"pair": (logits, x), "people": logits.unsqueeze(1), "dict": {"logits": logits}}.get(self.kind, logits)
