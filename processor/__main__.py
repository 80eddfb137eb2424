"""``python -m processor`` is main.py, wherever the project is installed."""

from .command_line import console

console()
