"""Freed memory is kept where it was asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from processor.host import keep_freed_memory

COUNT = """
import ctypes
import resource

from processor.host import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p

def faults(megabytes):
    for number in range(4):
        if number == 1:
            begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(megabytes * 2**20)))
        libc.memset(block, 1, ctypes.c_size_t(megabytes * 2**20))
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begun

print(faults(40), keep_freed_memory(), faults(40))
"""


def test_page_faults():
    words = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True).stdout.split()
    if words[1] == "False":
        pytest.skip("no glibc")
    assert int(words[0]) > 1000
    assert int(words[2]) < 0.05 * int(words[0])


def test_without_glibc(monkeypatch):
    monkeypatch.setattr("processor.host.ctypes.CDLL", lambda name: object())
    assert keep_freed_memory() is False


INSTALLED = """
import sys
from processor.installed import console

class Interrupted:
    def find_spec(self, name, *_):
        if name == "processor.command_line":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted())
console()
"""


def test_ctrl_c_while_the_installed_command_is_imported():
    words = [sys.executable, "-c", INSTALLED]
    ended = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (130, 1), ended.stderr


def test_ctrl_c_while_a_command_is_imported():
    """One line, and the exit code of Ctrl-C; other errors are shown as they are."""
    for error, code, first in (("KeyboardInterrupt", 130, "stopped; the same"), ("ImportError", 1, "Traceback ")):
        words = [sys.executable, "-c", f"import tools; raise {error}"]
        ended = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
        assert ended.returncode == code
        assert ended.stderr.startswith(first), ended.stderr
