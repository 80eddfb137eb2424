"""Chosen sequences as an HTML page of players, a GIF or a PNG contact sheet.

Shapes: L frames, M people, V joints, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from feeders.anatomy import evenly
from feeders.gaps import filled_joints

from ..study.layout_picture import frames_picture, layout_picture, png
from ..study.picture import Body, moving_picture
from .motion import motion
from .predictions import ShownPrediction
from .sequences import Sequences
from .templating import render

GIF_FRAMES = 60
IFRAME = '<iframe srcdoc="{}" title="{}" style="width: 100%; height: {}px; border: 0" loading="lazy"></iframe>'


@dataclass(frozen=True, eq=False)
class Shown:
    """Sequences that were chosen; in a notebook its value is the page.

    Attributes:
        sequences: of which they are.
        frames: number of the sequence -> (L, M, V, C).
        chosen: were they asked for, by name or class?
        predictions: id -> what a network says of it; empty without one.
    """

    sequences: Sequences
    frames: Mapping[int, np.ndarray]
    chosen: bool = True
    predictions: Mapping[str, ShownPrediction] = field(default_factory=dict)

    @property
    def ids(self) -> list[str]:
        """Names of the sequences that are shown."""
        return [str(self.sequences.ids[row]) for row in self.frames]

    def content(self, suffix: str) -> bytes:
        """A file of this suffix: .html, .gif or .png."""
        made = {".html": lambda: self.html().encode(), ".gif": self.gif, ".png": self.png}
        if suffix.lower() not in made:
            raise ValueError(f"--out: the name ends with .html, .gif or .png, not with {suffix or 'nothing'}")
        return made[suffix.lower()]()

    def html(self) -> str:
        """One file that needs no network: a player for each sequence."""
        data = self.sequences
        motions = [self._motion(row) for row in self.frames]
        return render("show.html.j2", title=data.name, about=data.about, layout=data.layout, motions=motions)

    def _repr_html_(self) -> str:
        rows = -(-len(self.frames) // 3)
        return IFRAME.format(escape(self.html()), escape(self.sequences.name), 160 + 480 * rows)

    def _motion(self, row: int) -> dict[str, Any]:
        data, name = self.sequences, str(self.sequences.ids[row])
        notes = [f"class: {data.class_of(row)}"] if data.class_of(row) else []
        if name not in self.predictions:
            return motion(self.frames[row], data.layout, data.dims, name=name, notes=notes)
        said = self.predictions[name]
        label = f"contribution to the probability of {said.name}"
        return motion(
            self.frames[row], data.layout, data.dims, name=name, notes=[str(said)], values=said.parts.tolist(),
            values_label=label,
        )  # fmt: skip

    def gif(self) -> bytes:
        """An animated picture."""
        return moving_picture([self._body(row) for row in self.frames], self.sequences.layout, "the prediction")

    def _body(self, row: int) -> Body:
        data, name = self.sequences, str(self.sequences.ids[row])
        frames = self.frames[row][evenly(len(self.frames[row]), GIF_FRAMES)].astype(np.float64)
        joints, missing = filled_joints(frames, data.layout, data.dims)
        if data.dims == 2:  # y points down
            joints = np.pad(joints * (1, -1), [(0, 0)] * 3 + [(0, 1)])
        else:  # a depth camera's x points to its left
            joints = joints * (-1, 1, 1)
        said = self.predictions.get(name)
        below = data.class_of(row) if said is None else f"{said.name} {100 * said.probability:.0f} %"
        return Body(_short(name), _short(below), joints, None if said is None else said.parts, missing)

    def png(self) -> bytes:
        """Frames of each sequence in a row; where none was asked for, one person with all joints named."""
        data = self.sequences
        if not self.chosen and not self.predictions:
            person = None if data.sketch else next(iter(self.frames.values()))
            return png(layout_picture(data.layout, person, data.dims))
        named = {str(data.ids[row]): frames for row, frames in self.frames.items()}
        said = {name: str(one) for name, one in self.predictions.items()}
        values = {name: one.parts for name, one in self.predictions.items()}
        return png(frames_picture(data.layout, named, data.dims, notes=said, values=values))


def _short(text: str) -> str:
    return text if len(text) <= 20 else f"{text[:9]}...{text[-8:]}"
