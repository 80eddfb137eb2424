"""The section that shows what mixing did: a sample, its partner and the result, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shapmix import SkeletonLayout

from .mixed import MixedSample, mixed_samples
from .motion import motion
from .open_run import PLAYED, START, OpenRun
from .page import Motion, Panel, Section

Groups = Mapping[str, Sequence[int]]
Spans = Mapping[str, tuple[int, int]]
SHOWN = 3
TITLE = "Mixing, seen"


def mixing_section(live: OpenRun | None, reason: str) -> Section:
    """Mixed samples of the last epoch; where there are none, the reason."""
    if live is None:
        return Section("mixing", TITLE, absent=f"This needs the training data and the mixer: {reason}")
    if live.layout is None:
        return Section("mixing", TITLE, absent="The skeleton layout is not known, so that nothing can be drawn.")
    epoch = max(live.config.num_epoch - 1, 0)
    samples = mixed_samples(live.config, live.data, live.mixer, epoch, SHOWN)
    if not samples:
        return Section("mixing", TITLE, absent="This run mixes nothing, or was trained by several processes.")
    panels = [_panel(sample, live.layout, live.dims, live.data.class_names) for sample in samples]
    text = [
        f"Training samples of epoch {epoch} as they were mixed ({live.config.mixing}), drawn as joints. What the "
        "result has of the partner has the partner's colour."
    ]
    return Section("mixing", TITLE, text, panels=panels)


def _panel(sample: MixedSample, layout: SkeletonLayout, dims: int, names: Sequence[str]) -> Panel:
    own, partner = (names[label] for label in sample.labels)
    everything = list(range(layout.num_joints))
    joints, spans = _whose(sample, everything)
    shown: tuple[tuple[str, str, np.ndarray, Groups, Spans], ...] = (
        ("own", f"own: {own} ({sample.ids[0]})", sample.own, {"own": everything, "partner": []}, {}),
        ("partner", f"partner: {partner} ({sample.ids[1]})", sample.partner, {"own": [], "partner": everything}, {}),
        ("result", "result", sample.result, joints, spans),
    )
    motions = [
        Motion(
            f"mixed-{sample.step}-{key}", label,
            motion(
                x.transpose(1, 3, 2, 0), layout, dims, most_frames=PLAYED, groups=groups, spans=within, playing=False,
                start=START,
            ),
        )
        for key, label, x, groups, within in shown
    ]  # fmt: skip
    shares = ", ".join(f"{share:.0%} {names[label]}" for label, share in sample.target.items())
    drawn = f"seed {sample.seed}, epoch {sample.epoch}, step {sample.step}"
    below = f"{_words(sample, layout)} Label: {shares}. Made by {drawn}."
    return Panel(f"{own} and {partner}", motions, "", below)


def _words(sample: MixedSample, layout: SkeletonLayout) -> str:
    """What the result has of the partner, in a sentence."""
    if sample.mask is None:
        return f"All joints are blended, {sample.blend:.0%} partner."
    joints: np.ndarray = np.any(sample.mask, axis=0)
    frames = np.flatnonzero(sample.mask.any(axis=1))
    if not len(frames):
        return "The partner gave nothing."
    when = "" if len(frames) == len(sample.mask) else f" in frames {frames[0] + 1} to {frames[-1] + 1}"
    parts = [name.replace("_", " ") for name, own in layout.parts.items() if joints[list(own)].all()]
    what = "whole body" if joints.all() else ", ".join(parts) or f"{joints.sum()} joints"
    return f"The partner gave its {what}{when}."


def _whose(sample: MixedSample, everything: list[int]) -> tuple[Groups, Spans]:
    """Joints that are the own sample's and the partner's, and when they are, where not always."""
    if sample.mask is None:
        return {"own": [], "partner": [], "blended": everything}, {}
    joints = sample.mask.any(axis=0)
    groups = {"own": np.flatnonzero(~joints).tolist(), "partner": np.flatnonzero(joints).tolist()}
    frames = np.flatnonzero(sample.mask.any(axis=1))
    if not len(frames) or len(frames) == len(sample.mask):
        return groups, {}
    return groups, {"partner": (int(frames[0]), int(frames[-1]) + 1)}
