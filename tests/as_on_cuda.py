"""What a run does on a GPU only, on the CPU: losses are read every few steps, ``compile`` without generating code, and
SyncBatchNorm of several processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from processor import training
from processor.build import Parts, build
from processor.config import Config
from processor.data import load_data
from processor.engine import Trainer


def pretend(replace: Any = setattr) -> None:
    """``replace`` is setattr, or pytest's monkeypatch.setattr."""
    compile_module = nn.Module.compile

    def traced(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        compile_module(self, backend="eager", dynamic=kwargs["dynamic"])

    replace(nn.Module, "compile", traced)
    replace(training, "read_interval", lambda config, device: config.log_interval)


def build_of_several(config: Config, monkeypatch: Any) -> Parts:
    """What one of two processes on GPUs builds, at the start of an epoch; the network stays on the CPU."""
    data = load_data(config, torch.device("cpu"))
    monkeypatch.setattr("processor.build.DistributedDataParallel", lambda network, **options: network)
    monkeypatch.setattr("processor.build.world", lambda: (0, 2))
    monkeypatch.setattr("processor.build.build_optimizer", lambda *args: None)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *args: self)
    parts = build(config, data, torch.device("cuda"))
    Trainer(parts.model, None, parts.criterion, None, None, frozen=parts.frozen).start_epoch()  # type: ignore[arg-type]
    return parts
