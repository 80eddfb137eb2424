"""``python -m processor`` is main.py, wherever the project is installed."""

from . import begin

begin()

from .command_line import console  # noqa: E402  (takes seconds)

console()
