"""The sections of a run's report that its folder alone gives: summary, training, classes, confusions."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

import numpy as np

from .charts import accuracy_by_count, confusion, curves
from .page import Figure, Motion, Panel, Section, Table
from .run_data import RunData, trained_on

Player = Callable[[str, str, str], Motion | None]  # id of a test sample, key, label -> how it plays, if it is known
NAMES = {"many": "many shot", "medium": "medium shot", "few": "few shot"}
SETTINGS = {
    "feeder": "data", "layout": "skeleton", "model": "network", "mixing": "mixing", "loss": "loss",
    "num_epoch": "epochs", "batch_size": "batch size", "optimizer": "optimiser", "base_lr": "learning rate",
    "seed": "seed",
}  # fmt: skip


def percent(value: float | None) -> str:
    """A share as text."""
    return "-" if value is None else f"{100 * value:.1f} %"


def summary(run: RunData) -> Section:
    """What was trained, how good it is, and what a reader should know first."""
    metrics, groups = run.metrics, list(run.group_of.values())
    tested = f"{len(run.scores.ids)} test sequences" if run.scores is not None else ""
    figures = []
    if metrics:
        figures = [
            Figure("overall (top-1)", percent(metrics["top1"]), tested),
            Figure("mean class", percent(metrics["mean_class_accuracy"]), f"{len(run.class_names)} classes"),
        ]
        limits = run.settings["groups"]
        words = {
            "many": f"more than {limits['many']}",
            "medium": f"{limits['few']} to {limits['many']}",
            "few": f"fewer than {limits['few']}",
        }
        for group, name in NAMES.items():
            if metrics.get(group) is not None:
                note = f"{groups.count(group)} classes, {words[group]} training sequences"
                figures.append(Figure(name, percent(metrics[group]), note))
    facts = [(name, str(run.settings[key])) for key, name in SETTINGS.items() if run.settings.get(key) is not None]
    arguments = {**run.settings["feeder_args"], **run.settings["test_feeder_args"]}
    facts[1:1] = [(name, str(arguments[name])) for name in ("data_path", "stream", "split") if name in arguments]
    facts += [("figures of", "the last epoch"), ("folder", run.place), ("last change", trained_on(run))]
    if run.counts:
        facts.append(("training sequences", f"{sum(run.counts)}, {min(run.counts)} to {max(run.counts)} in a class"))
    environment = run.environment
    if environment.get("command"):
        facts.append(("command", shlex.join(["python", *map(str, environment["command"])])))
    for key, name in (("git_commit", "commit"), ("device", "device"), ("processes", "processes"), ("torch", "torch")):
        if environment.get(key) is not None:
            changed = ", with changes" * (key == "git_commit" and environment.get("git_dirty") is True)
            facts.append((name, f"{environment[key]}{changed}"))
    return Section(
        "summary", "What was trained", figures=figures, facts=facts, warnings=run.warnings(),
        absent=run.missing.get("header", ""),
    )  # fmt: skip


def training(run: RunData) -> Section:
    """The curves."""
    if not run.lines:
        return Section("training", "Training", absent="No epoch is written yet: metrics.jsonl is empty or missing.")
    guided = "Guidance: how far from uniform mixing selects body parts; 0 uniform, 1 always the same ones."
    text = [guided] if any("guidance" in line for line in run.lines) else []
    return Section("training", "Training", text, charts=curves(run))


def classes(run: RunData) -> Section:
    """Accuracy against training count, and a table of all classes."""
    title = "Which classes fail"
    if run.scores is None or run.scores.labels is None:
        return Section("classes", title, absent=run.missing.get("scores", "The scores have no labels."))
    per_class, matrix = run.metrics["per_class"], run.confusion
    wrong = matrix - np.diag(matrix.diagonal())
    rows = []
    for label, name in enumerate(run.class_names):
        other = int(wrong[label].argmax())
        taken_for = f"{run.class_names[other]} ({wrong[label, other]})" if wrong[label, other] else ""
        count = str(run.counts[label]) if run.counts else ""
        accuracy = "" if per_class[label] is None else f"{100 * per_class[label]:.1f}"
        rows.append([name, count, run.group_of.get(label, ""), str(int(matrix[label].sum())), accuracy, taken_for])
    header = ["class", "training", "group", "tested", "accuracy (%)", "most often taken for"]
    table = Table(f"{len(rows)} classes; a heading sorts", header, rows, searchable=True)
    return Section("classes", title, charts=[accuracy_by_count(run)] if run.counts else [], tables=[table])


def confusions(run: RunData, player: Player | None, reason: str = "") -> Section:
    """The confusion matrix, and the most confused pairs with sequences."""
    title = "What is taken for what"
    if run.scores is None or run.scores.labels is None:
        return Section("confusions", title, absent=run.missing.get("scores", "The scores have no labels."))
    pairs = run.confused()
    if player is None:
        header = ["class", "taken for", "test sequences"]
        rows = [[run.class_names[one], run.class_names[other], str(number)] for one, other, number in pairs]
        absent = f"The sequences of the most confused pairs cannot be shown: {reason}"
        tables = [Table("Most confused pairs", header, rows)] if rows else []
        return Section("confusions", title, absent=absent, charts=[confusion(run)], tables=tables)
    panels = []
    for place, (one, other, number) in enumerate(pairs):
        name, taken = run.class_names[one], run.class_names[other]
        of = int(run.confusion[one].sum())
        motions: list[Motion | None] = []
        for row in run.samples_of(one, other):
            sample = run.scores.ids[row]
            motions.append(player(sample, f"pair-{place}-{row}", f"{sample}: {name}, taken for {taken}"))
        for row in run.samples_of(other, other, 1):
            sample = run.scores.ids[row]
            motions.append(player(sample, f"pair-{place}-{row}-right", f"{sample}: {taken}, to compare"))
        note = f"{number} of {of} test sequences"
        panels.append(Panel(f"{name} taken for {taken}", [motion for motion in motions if motion is not None], note))
    return Section("confusions", title, charts=[confusion(run)], panels=panels)


def sections_of(run: RunData, player: Player | None, reason: str = "") -> Sequence[Section]:
    """All of them, in order."""
    return [summary(run), training(run), classes(run), confusions(run, player, reason)]
