import os
import sys
from signal import SIGINT

# Read when torch loads its OpenMP library (GNU's, on Linux). Threads that wait for each other sleep after a fraction
# of a millisecond. By default they spin for several: beside another busy process, every operation would take that long.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


STOPPED = "stopped; the same command continues, or starts again"


def begin() -> None:
    """Before a command is imported, which takes seconds: Ctrl-C is one line, and so is a current folder that is gone.

    torch's libraries do not load there.
    """
    sys.excepthook = show_stopped
    try:
        os.getcwd()
    except FileNotFoundError:
        print("error: the current folder was deleted; change to another one (cd)", file=sys.stderr)
        raise SystemExit(2) from None


def show_stopped(kind: type[BaseException], error: BaseException, trace: object) -> None:
    """For sys.excepthook: Ctrl-C while a command is still being imported is one line."""
    if issubclass(kind, KeyboardInterrupt):
        print(STOPPED, file=sys.stderr)
        raise SystemExit(128 + SIGINT)
    sys.__excepthook__(kind, error, trace)  # type: ignore[arg-type]
