"""Command line of Shap-Mix: ``python main.py --config config/demo.yaml``. See processor/command_line.py."""

import processor

processor.begin()

from processor.command_line import console, main  # noqa: E402  (takes seconds)

__all__ = ["main"]

if __name__ == "__main__":
    console()
