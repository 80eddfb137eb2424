"""``python -m processor`` is main.py, wherever the project is installed."""

import sys

from . import show_stopped

sys.excepthook = show_stopped

from .command_line import console  # noqa: E402  (takes seconds)

console()
