"""How PYSKL's annotations become sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shapmix.skeleton import SkeletonLayout

Boxes = Literal["best", "published"]


@dataclass(frozen=True)
class Recipe:
    """How annotations become sequences."""

    layout: SkeletonLayout | None = None  # None: by the number of joints
    box_thr: float = 0.0  # boxes with a lower score (0 .. 1) are not used
    valid_ratio: float = 0.0  # training sequences with boxes in a smaller share (0 .. 1) of the frames are not used
    img_shape: tuple[int, int] | None = None  # (height, width) of annotations that have none
    folder: str = "."  # where raw files lie
    boxes: Boxes = "best"  # published: box_thr only where valid_ratio is used; the first two boxes, not the best

    def plain(self) -> dict[str, Any]:
        """What does not depend on the file: numbers, words, lists and None; see :meth:`of`."""
        size = None if self.img_shape is None else list(self.img_shape)
        return {"box_thr": self.box_thr, "valid_ratio": self.valid_ratio, "img_shape": size, "boxes": self.boxes}

    @classmethod
    def of(cls, plain: Mapping[str, Any], layout: SkeletonLayout, folder: str) -> Recipe:
        """Of plain values, some of which may be missing."""
        size = plain.get("img_shape")
        return cls(layout, folder=folder, **{**plain, "img_shape": None if size is None else (size[0], size[1])})
