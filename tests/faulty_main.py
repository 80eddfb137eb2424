"""main.py that kills itself with SIGKILL: ``python -m tests.faulty_main MOMENT NUMBER <main's words>``.

At the NUMBER-th time that MOMENT is reached the process is gone, as in a power cut. With AS_ON_CUDA in the environment
the run is one of tests.as_on_cuda.
"""

from __future__ import annotations

import os
import sys

import main
from tests import as_on_cuda
from tools.faults.fuse import arm

if __name__ == "__main__":
    if "AS_ON_CUDA" in os.environ:
        as_on_cuda.pretend()
    arm(sys.argv[1], int(sys.argv[2]))
    sys.exit(main.main(sys.argv[3:]))
