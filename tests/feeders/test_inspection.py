"""What is found in a store: each fault alone gives its finding, and a clean store none."""

from __future__ import annotations

import numpy as np
import pytest

from feeders.body import LAYOUT
from feeders.inspection import Inspection, findings
from feeders.store import DataError, Sample, SkeletonStore
from feeders.synthetic import Feeder
from shapmix.skeleton import SkeletonLayout


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    """24 sequences (L, 1, 25, 3) of made-up bodies that move."""
    feeder = Feeder(split="train", n_max=4, imbalance=1, cache_dir=str(tmp_path_factory.mktemp("made up")))
    return [np.array(feeder.store.sequence(row))[:, :1, :, :3] for row in range(0, 48, 2)]


def store(tmp_path, bodies, change=None, layout="ntu25", **meta):
    """8 sequences of each of three classes, of six subjects; the last of each four is for testing."""

    def read():
        for row, frames in enumerate(bodies):
            columns = {"subject": row % 6, "view": -1, "people": 1, "filled": 0, "removed": 0}
            columns |= {"in train": int(row % 6 != 3), "in test": int(row % 6 == 3)}
            sample = Sample(f"take {row}", row % 3, frames, columns=columns)
            yield sample if change is None else change(row, sample)

    known = {"layout": layout, "class_names": ["bow", "sit", "wave"], "splits": ["train", "test"], "dims": 3}
    known |= {"subjects": list("ABCDEF"), "views": []}
    return SkeletonStore.build([tmp_path], "mine", "0", read, **{**known, **meta})


def found(built):
    return {finding.code: finding for finding in findings(Inspection(built))}


def replaced(row_wanted, frames=None, **other):
    """A change of one sequence: its frames by a function, or other attributes."""

    def change(row, sample):
        if row != row_wanted:
            return sample
        columns = {**sample.columns, **other.pop("columns", {})}
        return Sample(
            sample.id,
            other.get("label", sample.label),
            frames(sample.frames) if frames else sample.frames,
            columns=columns,
        )

    return change


def test_a_clean_store(tmp_path, bodies):
    assert found(store(tmp_path, bodies)).keys() <= {"empty_class"}  # the test split has one class here


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("one_frame", replaced(4, lambda x: x[:1])),
        ("short", replaced(4, lambda x: x[:5])),
        ("no_motion", replaced(4, lambda x: np.repeat(x[:1], 20, axis=0))),
        ("repeated_frames", replaced(4, lambda x: np.repeat(x[:10], 4, axis=0))),
        ("large_values", replaced(4, lambda x: x * 1e7)),
        ("unusable", replaced(4, lambda x: x * np.nan)),
        ("filled", replaced(4, columns={"filled": 400})),
    ],
)
def test_one_wrong_sequence(tmp_path, bodies, code, change):
    finding = found(store(tmp_path, bodies, change))[code]
    assert finding.ids == ["take 4"]
    assert finding.advice
    assert finding.level == {"large_values": "error", "unusable": "error", "filled": "note"}.get(code, "warning")


def test_copies(tmp_path, bodies):
    same_class = found(store(tmp_path / "a", [*bodies[:22], bodies[19], bodies[23]]))["duplicates"]
    assert same_class.ids == ["take 19", "take 22"]
    two_classes = found(store(tmp_path / "b", [*bodies[:22], bodies[20], bodies[23]]))["duplicates_of_two_classes"]
    assert two_classes.ids == ["take 20", "take 22"]
    across = found(store(tmp_path / "c", [*bodies[:21], bodies[18], *bodies[22:]]))["duplicates_across_splits"]
    assert across.ids == ["take 18", "take 21"]


def test_subjects_in_both_splits(tmp_path, bodies):
    assert "shared_subjects" not in found(store(tmp_path / "a", bodies))
    change = replaced(9, columns={"subject": 0})  # of the test split
    finding = found(store(tmp_path / "b", bodies, change))["shared_subjects"]
    assert "1 subjects are in train and in test: A" in finding.what
    assert finding.ids == ["take 9"]


def test_splits(tmp_path, bodies):
    built = store(tmp_path, bodies)
    (built.path / "splits").mkdir()
    (built.path / "splits/test.txt").write_text("take 0\ntake 3\n")
    shared = found(SkeletonStore(built.path))["shared_samples"]
    assert (shared.level, shared.ids) == ("error", ["take 0"])
    (built.path / "splits/test.txt").write_text("take 99\n")
    broken = found(SkeletonStore(built.path))
    assert broken["broken_split"].level == broken["no_split"].level == "error"
    assert "take 99" in broken["broken_split"].what


def test_splits_of_two_protocols(tmp_path, bodies):
    """As in NTU's pickles: each test split is held out of the training split that goes with it alone."""

    def change(row, sample):
        inside = {"xsub_train": row % 6 != 3, "xsub_val": row % 6 == 3, "xset_train": row % 2, "xset_val": not row % 2}
        columns = {**sample.columns, **{f"in {split}": int(value) for split, value in inside.items()}}
        return Sample(sample.id, row % 3, sample.frames, columns=columns)

    splits = ["xsub_train", "xsub_val", "xset_train", "xset_val"]
    data = Inspection(store(tmp_path, bodies, change, splits=splits))
    assert data.pairs == [("xsub_train", "xsub_val"), ("xset_train", "xset_val")]
    assert not {"shared_samples", "no_split"} & {finding.code for finding in findings(data)}


def test_a_long_tailed_list_is_no_other_split(tmp_path, bodies):
    built = store(tmp_path, [*bodies[:22], bodies[19], bodies[23]])
    (built.path / "splits").mkdir()
    (built.path / "splits/train_exp_10.txt").write_text("take 19\ntake 4\n")
    assert "duplicates" in found(SkeletonStore(built.path))  # both are in train, so they are not across splits


def test_classes(tmp_path, bodies):
    def change(row, sample):
        return Sample(sample.id, 2 if row == 4 else 0, sample.frames, columns=sample.columns)

    codes = found(store(tmp_path / "a", bodies, change))
    assert codes["single_sample"].ids == ["take 4"]
    assert "wave" in codes["single_sample"].what
    one = found(store(tmp_path / "b", bodies, lambda _, s: Sample(s.id, 0, s.frames, columns=s.columns)))
    assert one["one_class"].level == "error"


def test_a_frozen_joint(tmp_path, bodies):
    thumb = LAYOUT.joint("left_thumb")

    def hold(row, sample):
        frames = sample.frames.copy()
        frames[:, :, thumb] = frames[:1, :, thumb]
        return Sample(sample.id, sample.label, frames, columns=sample.columns)

    finding = found(store(tmp_path, bodies, hold))["frozen_joints"]
    assert "left_thumb" in finding.what
    assert len(finding.ids) == len(bodies)


def test_bodies(tmp_path, bodies):
    mixed = np.random.default_rng(0).permutation(25)
    assert "joint_order" in found(store(tmp_path / "a", [x[:, :, mixed] for x in bodies]))
    assert "sides" in found(store(tmp_path / "b", [x[:, :, LAYOUT.mirrored()] for x in bodies]))
    assert "y" in found(store(tmp_path / "c", [x * np.array([-1, -1, 1], np.float32) for x in bodies]))["upright"].what
    assert "millimetres" in found(store(tmp_path / "d", [x * 1000 for x in bodies]))["units"].what
    unnamed = {"name": "mine", "joint_names": [f"joint {joint}" for joint in range(25)], "parts": LAYOUT.parts}
    own = {**unnamed, "bones": LAYOUT.bones}
    assert "units" not in found(store(tmp_path / "e", bodies, layout=own))
    assert "not metres" in found(store(tmp_path / "f", [x * 100 for x in bodies], layout=own))["units"].what


def test_other_stores(tmp_path, bodies):
    built = SkeletonStore.build([tmp_path], "bare", "0", lambda: [Sample("one", 0, bodies[0])])
    with pytest.raises(DataError, match="does not say its class_names and layout"):
        Inspection(built)


def test_any_layout(tmp_path, bodies):
    layout = {
        "name": "three",
        "joint_names": ["a", "b", "c"],
        "bones": [[1, 0], [2, 1]],
        "parts": {"x": [0, 1], "y": [2]},
    }
    built = store(tmp_path, [x[:, :, :3] for x in bodies], layout=layout)
    assert Inspection(built).layout == SkeletonLayout.from_dict(layout)
    assert found(built).keys() <= {"empty_class", "joint_order"}
