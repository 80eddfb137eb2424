"""Damage to the content of a file, and what a reader makes of it."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .case import Outcome

try:
    import resource
except ImportError:  # no such limits on this system
    resource = None  # type: ignore[assignment]

MEMORY = 2 << 30  # bytes that a reader may take more than the process has


def cut(content: bytes, rng: random.Random) -> bytes:
    """The first part of it."""
    return content[: rng.randrange(max(1, len(content)))]


def changed(content: bytes, rng: random.Random) -> bytes:
    """Some bytes are others, each in a place of its own."""
    damaged = bytearray(content)
    for place in rng.sample(range(len(content)), min(len(content), rng.choice((1, 1, 2, 8)))):
        damaged[place] ^= rng.randrange(1, 256)
    return bytes(damaged)


def blanked(content: bytes, rng: random.Random) -> bytes:
    """A block of it is zero, as after a crash of the machine."""
    place = rng.randrange(max(1, len(content)))
    size = min(len(content) - place, rng.choice((16, 512, 4096)))
    return content[:place] + bytes(size) + content[place + size :]


DAMAGES: Mapping[str, Callable[[bytes, random.Random], bytes]] = {
    "cut off": cut,
    "bytes changed": changed,
    "a block of zeros": blanked,
}


def digest(value: Any) -> str:
    """A word for a nested value of arrays, tensors and plain values, which is the same where the value is."""
    found = hashlib.blake2b(digest_size=16)

    def add(one: Any) -> None:
        if dataclasses.is_dataclass(one) and not isinstance(one, type):
            one = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
        if isinstance(one, torch.Tensor):
            one = one.contiguous().view(torch.uint8).numpy() if one.dim() else one.item()
        if isinstance(one, Mapping):
            found.update(f"{len(one)} keys".encode())
            for key, inner in one.items():
                add(key)
                add(inner)
        elif isinstance(one, np.ndarray) and one.dtype.kind != "O":
            found.update(f"{one.dtype} {one.shape} ".encode() + np.ascontiguousarray(one).tobytes())
        elif isinstance(one, (list, tuple, np.ndarray)):
            found.update(f"{len(one)} items".encode())
            for inner in one:
                add(inner)
        else:
            found.update(f"{type(one).__name__} {one!r};".encode())

    add(value)
    return found.hexdigest()


@contextmanager
def bounded_memory(more: int = MEMORY) -> Any:
    """MemoryError in the block where it takes so many bytes more than the process has, where the system can tell."""
    status = Path("/proc/self/statm")
    if resource is None or not status.is_file():
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(status.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def outcome_of_reading(read: Callable[[], Any], wanted: str | None, *names: str, checked: bool = True) -> Outcome:
    """What a reader made of a damaged file.

    Args:
        read: returns what it made of it.
        wanted: digest of what the whole file says; None: anything may come out.
        names: one of which an error must have.
        checked: the file has a checksum; else another value is one that somebody may have written.
    """
    try:
        with bounded_memory():
            found = read()
    except ValueError as error:
        named = any(name in str(error) for name in names)
        return Outcome("refused" if named else "lost", f"{'' if named else 'names no file: '}{error}"[:500])
    except RecursionError as error:
        return Outcome("lost", f"{type(error).__name__}: {error}")
    if wanted is None or digest(found) == wanted:
        return Outcome("survived")
    return Outcome("lost", "another value was taken silently") if checked else Outcome("survived", "another value")
