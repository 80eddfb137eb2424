"""Command line of Shap-Mix: ``python main.py --config config/demo.yaml``. See processor/command_line.py."""

from processor.command_line import console, main

__all__ = ["main"]

if __name__ == "__main__":
    console()
