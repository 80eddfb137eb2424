"""The package ``shapmix_train``: the training program as ``pip install`` lays it, beside the package ``shapmix``.

This file is its ``__init__.py``, see pyproject.toml. The program's packages are called model, feeders, processor and
tools, as the official configs and checkpoints name them. In the middle of site-packages they would hide folders of
these names in other people's projects. So they lie in there, and importing the package puts them on the path, for
processes that this one starts too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = str(HERE if (HERE / "processor").is_dir() else HERE.parents[1])  # the repository, where it is not installed

if FOLDER not in sys.path:
    sys.path.insert(0, FOLDER)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (FOLDER, os.environ.get("PYTHONPATH"))))


def console() -> None:
    """The command shapmix-train: what main.py does."""
    import processor

    processor.begin()
    from processor.command_line import console

    console()
