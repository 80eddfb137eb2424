"""The small network of tools.faults, as a class of this package: configs of tests name it."""

from __future__ import annotations

from tools.faults import small


class Model(small.Model):
    """See tools.faults.small."""
