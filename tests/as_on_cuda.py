"""What a run does on a GPU only, on the CPU: losses are read every few steps, ``compile`` without generating code."""

from __future__ import annotations

from typing import Any

from torch import nn

from processor import training


def pretend(replace: Any = setattr) -> None:
    """``replace`` is setattr, or pytest's monkeypatch.setattr."""
    compile_module = nn.Module.compile

    def traced(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        compile_module(self, backend="eager", dynamic=kwargs["dynamic"])

    replace(nn.Module, "compile", traced)
    replace(training, "read_interval", lambda config, device: config.log_interval)
