"""People drawn into a picture: every body part in the colour of its contribution, above it the person and the label.

Shapes: W joints, P parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from shapmix.skeleton import SkeletonLayout

from ..study.layout_picture import PARTS_ON_DARK
from ..study.picture import CARD, COLOURS, HEADS, INK, QUIET
from .poses import SEEN

TEXT = 1 / 32  # size of the letters as a share of the shorter side of the picture
UNKNOWN = (200, 205, 210)  # colour of a person without a label
Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Drawn:
    """One person in one picture.

    Attributes:
        joints: (W, 3) x and y in pixels, score.
        head: x of its middle and y of its highest point, about: over it stands what the person does.
        number: who it is.
        label, probability: what the person does; an empty label where that is not known.
        parts: (P,) Shapley values of the parts; None where they are not known.
    """

    joints: np.ndarray
    head: tuple[float, float]
    number: int
    label: str = ""
    probability: float = 0.0
    parts: np.ndarray | None = None


def draw_people(picture: np.ndarray, people: Sequence[Drawn], layout: SkeletonLayout) -> np.ndarray:
    """A copy of a picture (H, W, 3), uint8, with the people in it."""
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    size = max(11, round(min(image.size) * TEXT))
    taken: list[Box] = []
    for person in people:
        _body(pen, person, layout, image.size)
    for person in people:
        _plate(pen, person, layout, size, image.size, taken)
    if any(person.parts is not None for person in people):
        _scale(pen, size, image.size)
    return np.asarray(image)


def _body(pen: ImageDraw.ImageDraw, person: Drawn, layout: SkeletonLayout, size: tuple[int, int]) -> None:
    """The edges between joints that are seen, with a bright rim, so that they show on any ground."""
    seen = person.joints[:, 2] >= SEEN
    place = [(float(x), float(y)) for x, y in person.joints[:, :2]]
    if not seen.any():
        return
    tall = float(np.ptp(person.joints[seen, 1]))
    width = int(np.clip(round(tall / 32), 3, min(size) / 40 + 3))
    colours = _colours(person, layout)
    lines = [(one, other) for one, other in layout.edges if seen[one] and seen[other]]
    heads = [layout.joint(name) for name in HEADS if name in layout.joint_names and seen[layout.joint(name)]]
    for extra, colour in ((max(2, width // 2), None), (0, colours)):
        for one, other in lines:
            _line(pen, place[one], place[other], width + extra, INK if colour is None else colour[one])
        for head in heads:
            _disc(pen, place[head], 1.4 * width + extra / 2, INK if colour is None else colour[head])


def _colours(person: Drawn, layout: SkeletonLayout) -> list[tuple[int, int, int]]:
    """The colour of each joint's part."""
    if person.parts is None:
        return [UNKNOWN] * layout.num_joints
    part = layout.membership().int().argmax(0).numpy()
    values = COLOURS.to_rgba(person.parts, bytes=True)[part, :3]
    return [(int(red), int(green), int(blue)) for red, green, blue in values]


def _line(
    pen: ImageDraw.ImageDraw, one: tuple[float, float], other: tuple[float, float], width: int, colour: object
) -> None:
    """A line with round ends."""
    pen.line([one, other], fill=colour, width=width)  # type: ignore[arg-type]
    for end in (one, other):
        _disc(pen, end, width / 2, colour)


def _disc(pen: ImageDraw.ImageDraw, at: tuple[float, float], radius: float, colour: object) -> None:
    pen.ellipse([at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius], fill=colour)  # type: ignore[arg-type]


def _plate(
    pen: ImageDraw.ImageDraw,
    person: Drawn,
    layout: SkeletonLayout,
    size: int,
    picture: tuple[int, int],
    taken: list[Box],
) -> None:
    """Above the head: the person's number, the label and its probability, and the part that says most."""
    lines = [(f"{person.label.replace('_', ' ')}  {person.probability:.0%}" if person.label else "...", size, INK)]
    if person.parts is not None:
        most = int(person.parts.argmax())
        named = layout.part_names[most].replace("_", " ")
        lines.append((f"mainly {named}: {person.parts[most]:+.2f}", round(size * 0.72), QUIET))
    badge = size * 1.9
    wide = badge + max(pen.textlength(text, font(height)) for text, height, _ in lines) + size
    high = sum(height * 1.35 for _, height, _ in lines) + size * 0.35
    left = float(np.clip(person.head[0] - wide / 2, 0, max(0, picture[0] - wide)))
    top = float(np.clip(person.head[1] - high - size * 1.2, 0, max(0, picture[1] - high)))
    while any(left < right and top < low and left + wide > x and top + high > y for x, y, right, low in taken):
        top += size / 2
    taken.append((left, top, left + wide, top + high))
    pen.rounded_rectangle([left, top, left + wide, top + high], size * 0.4, fill=CARD)
    colour = PARTS_ON_DARK[person.number % len(PARTS_ON_DARK)]
    pen.rounded_rectangle([left, top, left + badge - size * 0.4, top + high], size * 0.4, fill=colour)
    middle = left + (badge - size * 0.4) / 2, top + high / 2
    pen.text(middle, str(person.number), CARD, font(size), anchor="mm")
    y = top + size * 0.2
    for text, height, ink in lines:
        pen.text((left + badge, y), text, ink, font(height))
        y += height * 1.35


def _scale(pen: ImageDraw.ImageDraw, size: int, picture: tuple[int, int]) -> None:
    """What the colours mean, at the bottom on the left."""
    height = max(10, round(size * 0.72))
    texts = "contribution of a body part to the label   0", "1"
    widths = [pen.textlength(text, font(height)) for text in texts]
    bar = round(height * 7)
    high, wide = height * 1.8, sum(widths) + bar + height * 2.4
    top = picture[1] - high
    pen.rectangle([0, top, wide, picture[1]], fill=CARD)
    pen.text((height * 0.6, top + high / 2), texts[0], QUIET, font(height), anchor="lm")
    left = round(height * 1.2 + widths[0])
    for x, colour in enumerate(COLOURS.to_rgba(np.linspace(0, 1, bar), bytes=True)[:, :3].tolist()):
        pen.line([left + x, top + height * 0.5, left + x, top + high - height * 0.5], fill=tuple(colour))
    pen.text((left + bar + height * 0.6, top + high / 2), texts[1], QUIET, font(height), anchor="lm")


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font that matplotlib brings, which has most alphabets."""
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)
