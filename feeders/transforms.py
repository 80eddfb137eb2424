"""Transforms of whole batches on any device. Pure functions: random numbers are arguments.

Shapes: N batch, C coordinates, T frames, V joints, M people.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import radians

import numpy as np
import torch
from torch import Tensor

from shapmix.skeleton import SkeletonLayout

STREAMS = ("joint", "bone", "joint_motion", "bone_motion")


def to_device(values: Tensor | np.ndarray, device: torch.device) -> Tensor:
    """A copy on the device, or the values themselves on the CPU; the host does not wait for a GPU."""
    found = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    pinned = found.pin_memory() if device.type == "cuda" and found.device.type == "cpu" else found
    return pinned.to(device, non_blocking=True)


@lru_cache
def _index(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    """An index on the device. Made once, because the host waits for the copy, as it would for a list as index."""
    return torch.tensor(numbers, device=device)


def centre_crop(lengths: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """First frame and number of frames of the middle ``share`` (0 .. 1) of each sequence; CTR-GCN's test crop."""
    start = ((1 - share) * lengths / 2).astype(np.int64)
    return start, lengths - 2 * start


def random_crop(
    lengths: np.ndarray, shares: Sequence[float], at_least: int, draws: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First frame and number of frames of CTR-GCN's training crop, each (N,).

    It is a share of the sequence between the two ``shares`` (0 .. 1), and has ``at_least`` so many frames, where the
    sequence has them. ``draws`` (N, 2) are uniform numbers: share, place.
    """
    low, high = shares
    share = draws[:, 0] * (high - low) + low
    length = np.minimum(np.maximum(np.floor(lengths * share).astype(np.int64), at_least), lengths)
    start = np.floor(draws[:, 1] * (lengths - length + 1)).astype(np.int64)
    return start, length


def neighbouring_frames(
    start: np.ndarray, length: np.ndarray, window: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Linear resize of cropped sequences to ``window`` frames, with the arithmetic of torch's ``interpolate``.

    Returns:
        left and right frame, counted from the start of the sequence, and the right one's weight, each (N, window).
    """
    scale = (length.astype(np.float32) / np.float32(window))[:, None]
    place = np.maximum(scale * (np.arange(window, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), 0)
    left = np.minimum(place.astype(np.int64), length[:, None] - 1)
    right = np.minimum(left + 1, length[:, None] - 1)
    return start[:, None] + left, start[:, None] + right, place - left.astype(np.float32)


def rotation_matrices(angles: Tensor) -> Tensor:
    """(N, 3) angles about x, y, z in radians -> (N, 3, 3) matrices Rz Ry Rx, as CTR-GCN turns its coordinates."""
    (sx, sy, sz), (cx, cy, cz) = angles.sin().unbind(1), angles.cos().unbind(1)
    zero, one = torch.zeros_like(sx), torch.ones_like(sx)

    def matrix(*rows: Tensor) -> Tensor:
        return torch.stack(rows, dim=1).view(-1, 3, 3)

    about_x = matrix(one, zero, zero, zero, cx, sx, zero, -sx, cx)
    about_y = matrix(cy, zero, -sy, zero, one, zero, sy, zero, cy)
    about_z = matrix(cz, sz, zero, -sz, cz, zero, zero, zero, one)
    return about_z @ about_y @ about_x


def rotate(x: Tensor, matrices: Tensor, out: Tensor | None = None) -> Tensor:
    """Turns coordinates (N, 3, T, V, M) by matrices (N, 3, 3); (N, 3, K) are for K channels.

    Quickest where they lie as (N, 3, T, M, V) in memory. The result lies so, and ``out`` has to.
    """
    samples, channels, frames, joints, people = x.shape
    turned = matrices.shape[1]
    if out is None:
        out = x.new_empty(samples, turned, frames, people, joints).transpose(3, 4)
    # one order in memory, whatever that of x: a product of a transposed matrix can round otherwise
    coordinates = x.transpose(3, 4).reshape(samples, channels, -1).contiguous()
    torch.bmm(matrices, coordinates, out=out.transpose(3, 4).view(samples, turned, -1))
    return out


def move(x: Tensor, draws: Tensor) -> Tensor:
    """Turns (within 10 degrees), scales (0.9 .. 1.1) and shifts (within 0.2) x and y, smoothly over time.

    The random move of ST-GCN (Yan et al., AAAI 2018); all three change linearly from the first frame to the last.

    Args:
        x: (N, C, T, V, M), C of at least 2.
        draws: (N, 8) uniform numbers: angle, scale, shift in x and in y, each at the first and the last frame.
    """
    time = torch.linspace(0, 1, x.shape[2], device=x.device, dtype=x.dtype)
    ends = to_device(draws.to(x.dtype), x.device).view(-1, 4, 2, 1)
    angle, scale, right, up = (ends[:, :, 0] + (ends[:, :, 1] - ends[:, :, 0]) * time).unbind(1)
    angle, scale = (angle * 2 - 1) * radians(10), 0.9 + 0.2 * scale
    cos, sin = ((scale * f)[:, :, None, None] for f in (angle.cos(), angle.sin()))
    moved = x.clone()
    moved[:, 0] = cos * x[:, 0] - sin * x[:, 1] + (right * 0.4 - 0.2)[:, :, None, None]
    moved[:, 1] = sin * x[:, 0] + cos * x[:, 1] + (up * 0.4 - 0.2)[:, :, None, None]
    return moved


def mirror(x: Tensor, which: Tensor, layout: SkeletonLayout, axis: int = 0) -> Tensor:
    """Exchanges left and right of the samples ``which`` (N,) bool of x (N, C, T, V, M): joints, and an axis."""
    mirrored = x[:, :, :, _index(tuple(layout.mirrored()), x.device)]
    mirrored[:, axis] = -mirrored[:, axis]
    return torch.where(which[:, None, None, None, None], mirrored, x)


def turn_and_scale(x: Tensor, angles: Tensor, scale: Tensor) -> Tensor:
    """Turns x (N, C, T, V, M), then scales its first D coordinates by factors (N, D).

    ``angles`` are in radians: (N, 1) turn the image, D = 2; (N, 3) turn about x, y and z, D = 3.
    """
    if angles.shape[1] == 3:
        turned = rotate(x, rotation_matrices(angles))
    else:
        cos, sin = angles.cos()[..., None, None], angles.sin()[..., None, None]
        right, up = x[:, 0], x[:, 1]
        turned = torch.stack([cos * right - sin * up, sin * right + cos * up], dim=1)
    return torch.cat([turned * scale[:, :, None, None, None], x[:, scale.shape[1] :]], dim=1)


def pose_stream(
    x: Tensor, following: Tensor | None, layout: SkeletonLayout, stream: str, coordinates: int = 2
) -> Tensor:
    """Joints x (N, 3, T, V, M) to one of the four streams, as PYSKL has them.

    Channels after the ``coordinates`` are scores: a bone's is the mean of its two joints' scores, and a motion's of the
    two frames' scores (docs/method.md, "Body parts and coalitions"). For a motion, ``following`` are the next stored
    frames, same shape.
    """
    if stream.startswith("bone"):
        nearer = _index(tuple(layout.parents()), x.device)
        x = _differences(x[:, :, :, nearer], x, coordinates)
        following = None if following is None else _differences(following[:, :, :, nearer], following, coordinates)
    return x if following is None else _differences(x, following, coordinates)


def _differences(x: Tensor, other: Tensor, coordinates: int) -> Tensor:
    """The coordinates of ``other`` minus those of x, and the mean of their scores."""
    if coordinates == x.shape[1]:
        return other - x
    return torch.cat(
        [other[:, :coordinates] - x[:, :coordinates], (other[:, coordinates:] + x[:, coordinates:]) / 2], 1
    )


def to_stream(x: Tensor, layout: SkeletonLayout, stream: str, coordinates: int | None = None) -> Tensor:
    """Joints to one of the four streams, same shape. A motion is the difference to the next frame; the last is 0.

    ``coordinates``: see :func:`pose_stream`; by default all channels are.
    """
    coordinates = x.shape[1] if coordinates is None else coordinates
    if not stream.endswith("motion"):
        return pose_stream(x, None, layout, stream, coordinates)
    moved = torch.zeros_like(x)
    moved[:, :, :-1] = pose_stream(x[:, :, :-1], x[:, :, 1:], layout, stream, coordinates)
    return moved


def scale_to_unit(x: Tensor, valid: Tensor) -> Tensor:
    """Scales each axis of x (N, C, T, V, M) to -1 .. 1 over its valid frames; a constant axis becomes 0.

    ``valid`` (N, T) bool has at least one frame in each row.
    """
    mask = valid[:, None, :, None, None]
    low = x.masked_fill(~mask, torch.inf).amin((2, 3, 4), keepdim=True)
    high = x.masked_fill(~mask, -torch.inf).amax((2, 3, 4), keepdim=True)
    spread = high - low
    constant = spread == 0
    return torch.where(constant, 0.0, (x - low) / torch.where(constant, 1.0, spread) * 2 - 1)
