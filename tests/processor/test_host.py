"""Freed memory is kept where it was asked for."""

from __future__ import annotations

import subprocess
import sys

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
