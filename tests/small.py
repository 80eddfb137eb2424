"""The small network of tools.faults, under a name that tests use."""

from tools.faults.small import Model

__all__ = ["Model"]
