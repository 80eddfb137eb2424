"""tools.convert: every form of the same recordings gives the same store, and what cannot be used is named."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from feeders.convert import understand
from feeders.store import SkeletonStore
from shapmix.skeleton import SkeletonLayout
from tools.convert import main

LAYOUT = SkeletonLayout.get("ucla20")
NAMES = LAYOUT.joint_names
V = LAYOUT.num_joints
CLASSES = ("bow", "sit down", "wave")
TAKES = {f"{label}/{number}": label for label in CLASSES for number in range(1, 11)}


def made_up(dims=3):
    """30 recordings (L, V, D): name -> numbers that a float32 holds."""
    rng = np.random.default_rng(0)
    rest = rng.normal(size=(V, dims))
    return {
        name: (rest + 0.1 * rng.normal(size=(int(rng.integers(6, 12)), V, dims)).cumsum(0)).astype(np.float32)
        for name in TAKES
    }


SKELETONS, POSES = made_up(), made_up(2)
SCORES = {name: np.random.default_rng(1).uniform(0.2, 1, x.shape[:2]).astype(np.float32) for name, x in POSES.items()}


def table(x, names, separator=",", decimal="."):
    cells = pd.DataFrame(x.reshape(len(x), -1).astype(np.float64), columns=names)
    return cells.to_csv(index=False, sep=separator, decimal=decimal)


def columns(pattern, joints, axes="xyz"):
    return [pattern.format(j=joint, a=axis) for joint in joints for axis in axes]


def long(x):
    rows = [(t, NAMES[v], *x[t, v].astype(float)) for t in range(len(x)) for v in range(V)]
    return (
        pd.DataFrame(rows, columns=["frame", "joint", "x", "y", "z"]).sample(frac=1, random_state=0).to_csv(index=False)
    )


def array(order):
    """Writes an array with its axes in this order."""
    sizes = {"N": 1, "M": 1}

    def write(path, x):
        axes = "TVC"
        for letter in set(order) - set(axes):
            x, axes = x[None], letter + axes
            assert sizes[letter] == x.shape[0]
        np.save(path, x.transpose([axes.index(letter) for letter in order]))

    return write


def text(make):
    return lambda path, x: path.write_text(make(x), encoding="utf-8")


def bodies(x, head=""):
    """V lines a frame, as MSR-Action3D has it, with a fourth number."""
    return head + "\n".join(" ".join(map(repr, [*map(float, joint), 1.0])) for frame in x for joint in frame)


WRITERS = {  # suffix, writer of one take
    "csv by number": (".csv", text(lambda x: table(x, columns("{a}{j}", range(V))))),
    "csv by name": (".csv", text(lambda x: table(x[:, ::-1], columns("{j}_{a}", NAMES[::-1])))),
    "csv with decimal commas": (".csv", text(lambda x: table(x, columns("{a}_{j}", NAMES), ";", ","))),
    "csv, a row a joint": (".csv", text(long)),
    "csv without header": (".csv", text(lambda x: table(x, columns("{a}{j}", range(V))).partition("\n")[2])),
    "npy TVC": (".npy", array("TVC")),
    "npy MTVC": (".npy", array("MTVC")),
    "npy TMVC": (".npy", array("TMVC")),
    "npy CTV": (".npy", array("CTV")),
    "npy VCT": (".npy", array("VCT")),
    "npy NCTVM": (".npy", array("NCTVM")),
    "npy flat": (".npy", lambda path, x: np.save(path, x.reshape(len(x), -1))),
    "npz": (".npz", lambda path, x: np.savez(path, joints=x, fps=30)),
    "npz compressed": (".npz", lambda path, x: np.savez_compressed(path, x.astype(np.float64))),
    "mat": (".mat", lambda path, x: savemat(path, {"d_skel": x.transpose(1, 2, 0)})),
    "plain text": (".txt", text(bodies)),
    "json lines": (".jsonl", text(lambda x: "\n".join(json.dumps(frame.astype(float).tolist()) for frame in x))),
    "json of NW-UCLA": (".json", text(lambda x: json.dumps({"file_name": "x", "skeletons": x.astype(float).tolist()}))),
    "json by name": (".json", text(lambda x: json.dumps([dict(zip(NAMES, one, strict=True)) for one in x.tolist()]))),
}  # fmt: skip


def write_all(folder, form, takes=SKELETONS):
    suffix, write = WRITERS[form]
    for name, x in takes.items():
        path = folder / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, x)


def convert(source, out, *options, code=0):
    assert main([str(source), "--out", str(out), "--jobs", "1", *options]) == code
    return SkeletonStore(out) if code == 0 else None


def check(store, takes=SKELETONS, scores=None):
    """The store holds exactly these takes."""
    assert store.ids == list(takes)
    assert store.meta["class_names"] == list(CLASSES)
    assert [CLASSES[label] for label in store.labels] == [TAKES[name] for name in takes]
    for row, (name, x) in enumerate(takes.items()):
        wanted = x if x.shape[-1] == 3 else np.concatenate([x, (scores or SCORES)[name][..., None]], axis=-1)
        np.testing.assert_array_equal(store.sequence(row)[:, 0], wanted, err_msg=name)


@pytest.mark.parametrize("form", WRITERS)
def test_every_form_gives_the_same_store(tmp_path, form):
    write_all(tmp_path / "in", form)
    store = convert(tmp_path / "in", tmp_path / "out", "--layout", "ucla20")
    check(store)
    assert store.frames.shape[1:] == (1, V, 3)
    assert store.meta["layout"] == "ucla20"
    assert (store.meta["dims"], store.meta["splits"], store.meta["subjects"]) == (3, [], [])


def test_a_zip_archive_gives_the_same_store(tmp_path):
    write_all(tmp_path / "in", "csv by name")
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (tmp_path / "in").rglob("*.csv"):
            archive.write(path, path.relative_to(tmp_path))
    check(convert(tmp_path / "all.zip", tmp_path / "out"))  # the layout follows from the names


def test_one_file_a_frame_gives_the_same_store(tmp_path):
    for name, x in SKELETONS.items():
        (tmp_path / "in" / name).mkdir(parents=True)
        for number, frame in enumerate(x):
            np.save(tmp_path / "in" / name / f"{number}.npy", frame.ravel())
    check(convert(tmp_path / "in", tmp_path / "out", "--layout", "ucla20"))


def test_several_processes_give_the_same_store(tmp_path):
    write_all(tmp_path / "in", "csv by name")
    assert main([str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--jobs", "2"]) == 0
    check(SkeletonStore(tmp_path / "out"))


def test_a_table_of_labels(tmp_path):
    suffix, write = WRITERS["npy TVC"]
    rows = ["id,label,subject,view,split"]
    for number, (name, x) in enumerate(SKELETONS.items()):
        write(tmp_path / f"{name.replace('/', ' ')}{suffix}", x)
        rows.append(
            f"{name.replace('/', ' ')}.npy,{TAKES[name]},P{number % 3},{number % 2},{('train', 'test')[number % 2]}"
        )
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    store = convert(tmp_path, tmp_path / "out", "--layout", "ucla20")
    assert store.meta["class_names"] == list(CLASSES)
    assert store.meta["subjects"] == ["P0", "P1", "P2"]
    assert store.meta["views"] == ["0", "1"]
    assert store.meta["splits"] == ["test", "train"]
    number = store.ids.index("wave 1")
    assert [int(store.columns[name][number]) for name in ("subject", "view", "in train", "in test")] == [2, 0, 1, 0]


def test_names_of_classes(tmp_path):
    for name, x in SKELETONS.items():
        label, take = list(CLASSES).index(TAKES[name]) + 9, name.rpartition("/")[2]
        np.save(tmp_path / f"a{label}_s{take}_t1.npy", x)
    (tmp_path / "names.txt").write_text("bow\nsit down\nwave\n")
    store = convert(tmp_path, tmp_path / "out", "--layout", "ucla20", "--classes", str(tmp_path / "names.txt"))
    assert store.meta["class_names"] == list(CLASSES)
    assert store.labels[store.ids.index("a10_s3_t1")] == 1
    assert store.meta["subjects"] == [str(number) for number in range(1, 11)]
    (tmp_path / "names.txt").write_text("bow\nsit down\nwave hello\n")  # other names: another store
    options = ("--layout", "ucla20", "--classes", str(tmp_path / "names.txt"))
    convert(tmp_path, tmp_path / "out", *options, code=2)
    assert convert(tmp_path, tmp_path / "out", *options, "--overwrite").meta["class_names"][2] == "wave hello"
    (tmp_path / "names.txt").write_text("bow\nwave\n")
    convert(tmp_path, tmp_path / "out2", "--layout", "ucla20", "--classes", str(tmp_path / "names.txt"), code=2)


def test_gaps_are_filled_and_counted(tmp_path, capsys):
    takes = {name: x.copy() for name, x in SKELETONS.items()}
    x = takes["wave/1"]
    x[2:4, 7] = np.nan  # between frames 1 and 4
    x[:, 3] = np.nan  # the head, never seen: where its neighbour is
    x[0] = 0  # nobody
    x[-1, 5] = np.nan  # as before
    write_all(tmp_path / "in", "csv by name", takes)
    store = convert(tmp_path / "in", tmp_path / "out")
    row = store.ids.index("wave/1")
    found, original = store.sequence(row)[:, 0], SKELETONS["wave/1"]
    assert len(found) == len(original) - 1
    between = original[1, 7] + (original[4, 7] - original[1, 7]) * np.array([[1], [2]]) / 3
    np.testing.assert_allclose(found[1:3, 7], between, rtol=1e-6)
    np.testing.assert_array_equal(found[:, 3], found[:, LAYOUT.joint("neck")])
    np.testing.assert_array_equal(found[-1, 5], original[-2, 5])
    assert store.columns["removed"][row] == 1
    assert store.columns["filled"][row] == 2 + (len(original) - 1) + 1
    said = capsys.readouterr().out
    assert "joints that were not seen are filled" in said
    assert "frames without people are removed: 1" in said
    assert "units: unknown; people are " in said, "the joints are noise"


def test_what_cannot_be_used_is_named(tmp_path, capsys):
    write_all(tmp_path / "in", "csv by name")
    folder = tmp_path / "in/bow"
    (folder / "empty.csv").write_bytes(b"")
    (folder / "header only.csv").write_text(",".join(columns("{j}_{a}", NAMES)) + "\n")
    (folder / "zeros.csv").write_text(table(np.zeros((9, V, 3)), columns("{j}_{a}", NAMES)))
    (folder / "other joints.csv").write_text(table(np.ones((9, 3, 3)), columns("{a}{j}", range(3))))
    (folder / "flat.csv").write_text(table(np.ones((9, V, 2)), columns("{j}_{a}", NAMES, "xy")))
    holes = SKELETONS["bow/1"].copy()
    holes[:, :15] = np.nan
    (folder / "holes.csv").write_text(table(holes, columns("{j}_{a}", NAMES)))
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    (folder / "a folder.csv").mkdir()
    (tmp_path / "in/readme.md").write_text("hello")
    check(convert(tmp_path / "in", tmp_path / "out"))
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["used"] == 30
    reasons = {Path(name).name: kind for kind, files in report["left_out"].items() for name in files}
    assert reasons == {
        "empty": "empty", "header only": "no frames", "zeros": "no people", "other joints": "other joints",
        "flat": "other coordinates", "holes": "too few joints seen", "broken": "damaged", "readme.md": "no skeletons",
    }  # fmt: skip
    said = capsys.readouterr().out
    for name in reasons:
        assert name in said
    assert "bow/other joints (3, layout ucla20 has 20)" in said, "which of the classes it is"
    convert(tmp_path / "in", tmp_path / "strict", "--strict", code=2)


def test_one_reason_is_said_once(tmp_path, capfd):
    for label, number in (("a", 1), ("a", 2), ("b", 1)):
        (tmp_path / f"in/{label}").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"in/{label}/{number}.csv").write_text("p,q\n1,2\n")
    convert(tmp_path / "in", tmp_path / "out", code=2)
    said = capfd.readouterr().err
    assert "a/1, a/2, b/1 (other columns: p, q; wanted" in said
    assert said.count("wanted") == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--layout", "ucla21"], "ucla20"),
        (["--layout", "ntu25"], "25"),
        (["--pattern", "{label}_x"], "no name fits"),
        (["--max_missing", "2"], "--max_missing"),
        (["--axes", "TVX"], "axes"),
    ],
)
def test_wrong_options(tmp_path, capfd, options, reason):
    write_all(tmp_path / "in", "npy TVC")
    convert(tmp_path / "in", tmp_path / "out", *options, code=2)
    said = capfd.readouterr()
    assert reason in said.err + said.out
    assert not (tmp_path / "out").exists()


def test_labels_must_be_somewhere(tmp_path, capfd):
    np.save(tmp_path / "one.npy", SKELETONS["bow/1"])
    convert(tmp_path, tmp_path / "out", "--layout", "ucla20", code=2)
    assert "put the takes of each class into a folder of its own" in capfd.readouterr().err


def test_an_unknown_skeleton_gets_a_draft(tmp_path, capfd):
    names = ("pelvis", "chest", "head", "l_hand", "r_hand", "l_foot", "r_foot")
    for name, x in SKELETONS.items():
        path = tmp_path / f"in/{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(table(x[:, :7], columns("{j}_{a}", names)))
    convert(tmp_path / "in", tmp_path / "out", code=2)
    draft = tmp_path / "out.layout.yaml"
    assert str(draft) in capfd.readouterr().err
    store = convert(tmp_path / "in", tmp_path / "out", "--layout", str(draft))
    np.testing.assert_array_equal(store.sequence(0)[:, 0], SKELETONS["bow/1"][:, :7])


def test_the_same_command_again_and_after_a_change(tmp_path, capsys):
    write_all(tmp_path / "in", "csv by name")
    first = convert(tmp_path / "in", tmp_path / "out").checksum
    (tmp_path / "out/splits").mkdir()
    (tmp_path / "out/splits/train.txt").write_text("bow/1\n")
    assert convert(tmp_path / "in", tmp_path / "out").checksum == first
    (tmp_path / "in/bow/1.csv").unlink()
    convert(tmp_path / "in", tmp_path / "out", code=2)
    assert len(convert(tmp_path / "in", tmp_path / "out", "--overwrite")) == 29
    assert (tmp_path / "out/splits/train.txt").read_text() == "bow/1\n"  # what the user wrote stays


def test_long_takes_are_not_kept_while_a_set_is_understood(tmp_path, monkeypatch):
    monkeypatch.setattr(understand, "FRAMES", 4)
    kept = []
    choose = understand.choose_layout
    monkeypatch.setattr(understand, "choose_layout", lambda x, *more: (kept.extend(map(len, x)), choose(x, *more))[1])
    monkeypatch.setattr(understand, "LAYOUTS", {"a": LAYOUT, "b": SkeletonLayout.get("msr20")})
    write_all(tmp_path / "in", "npy TVC")
    main([str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--jobs", "1"])
    assert set(kept) == {4}


def test_a_damaged_file_that_should_say_its_label(tmp_path):
    for name, x in SKELETONS.items():
        text = json.dumps({"label": TAKES[name], "frames": x.tolist()})
        (tmp_path / f"{name.replace('/', ' ')}.json").write_text(text[: 99 if name == "bow/2" else None])
    store = convert(tmp_path, tmp_path / "out", "--layout", "ucla20")
    assert len(store) == 29
    reason = json.loads((tmp_path / "out/report.json").read_text())["left_out"]["no label"]
    assert list(reason) == ["bow 2"]
    assert reason["bow 2"].startswith("damaged: it is cut off")


def test_the_store_may_lie_in_the_folder(tmp_path, monkeypatch):
    write_all(tmp_path, "npy TVC")
    (tmp_path / "unfinished.partial").mkdir()
    np.save(tmp_path / "unfinished.partial/frames.npy", np.zeros((5, 1, V, 3)))
    (tmp_path / "unfinished.partial/journal.jsonl").write_text("")
    check(convert(tmp_path, tmp_path / "out", "--layout", "ucla20"))
    check(convert(tmp_path, tmp_path / "out", "--layout", "ucla20"))


def test_more_people_than_are_kept_are_counted(tmp_path, capsys):
    for name, x in SKELETONS.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / f"in/{name}.npy", np.stack([x, x + 1, x + 2]))
    convert(tmp_path / "in", tmp_path / "out", "--layout", "ucla20")
    assert "30 sequences have more than 2 people in a frame; --people keeps more" in capsys.readouterr().out


def test_a_stopped_conversion_goes_on(tmp_path, monkeypatch):
    write_all(tmp_path / "in", "csv by name")
    add = SkeletonStore.build.__globals__["StoreWriter"].add
    count = []

    def stop(writer, sample):
        count.append(sample.id)
        if len(count) == 12:
            raise KeyboardInterrupt
        add(writer, sample)

    monkeypatch.setattr("feeders.store_writer.StoreWriter.add", stop)
    assert main([str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--jobs", "1"]) == 130
    assert not (tmp_path / "out").exists()
    check(convert(tmp_path / "in", tmp_path / "out"))
    assert count[11:13] == ["sit down/2", "sit down/2"]
    assert len(count) == 31


def test_whole_sets_give_the_same_store(tmp_path):
    names, longest = list(SKELETONS), max(map(len, SKELETONS.values()))
    labels = [CLASSES.index(TAKES[name]) for name in names]
    annotations = [
        {"frame_dir": name, "label": label, "total_frames": len(SKELETONS[name]), "keypoint": SKELETONS[name][None]}
        for name, label in zip(names, labels, strict=True)
    ]
    with open(tmp_path / "all.pkl", "wb") as file:
        pickle.dump({"split": {"train": names[::2], "val": names[1::2]}, "annotations": annotations}, file)
    (tmp_path / "names.txt").write_text("\n".join(CLASSES))
    options = ("--layout", "ucla20", "--classes", str(tmp_path / "names.txt"))
    store = convert(tmp_path / "all.pkl", tmp_path / "pyskl", *options)
    check(store)
    assert store.meta["splits"] == ["train", "val"]
    x = np.zeros((30, longest, V * 3), np.float32)
    for row, name in enumerate(names):
        x[row, : len(SKELETONS[name])] = SKELETONS[name].reshape(-1, V * 3)
    y = np.eye(3)[labels]
    np.savez(tmp_path / "all.npz", x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
    store = convert(tmp_path / "all.npz", tmp_path / "ctrgcn", *options)
    assert store.meta["splits"] == ["train", "test"]
    for row, name in enumerate(names):
        np.testing.assert_array_equal(store.sequence(row)[:, 0], SKELETONS[name])
        assert store.labels[row] == labels[row]


def test_every_form_of_poses_gives_the_same_store(tmp_path):
    layout = SkeletonLayout.get("ucla20")
    annotations = []
    for name, x in POSES.items():
        for form in ("csv", "json"):
            (tmp_path / form / name).parent.mkdir(parents=True, exist_ok=True)
        both = np.concatenate([x, SCORES[name][..., None]], axis=-1)
        text = table(both, columns("{j}_{a}", layout.joint_names, ["x", "y", "score"]))
        (tmp_path / f"csv/{name}.csv").write_text(text)
        (tmp_path / "json" / name).mkdir()
        for frame, person in enumerate(both):
            people = [{"person_id": [-1], "pose_keypoints_2d": person.astype(float).ravel().tolist()}]
            path = tmp_path / "json" / name / f"take_{frame:012}_keypoints.json"
            path.write_text(json.dumps({"version": 1.3, "people": people}))
        label = CLASSES.index(TAKES[name])
        annotations.append(
            {
                "frame_dir": name,
                "label": label,
                "keypoint": x[None],
                "keypoint_score": SCORES[name][None],
                "img_shape": (48, 64),
            }
        )
    with open(tmp_path / "all.pkl", "wb") as file:
        pickle.dump({"split": {"train": list(POSES)}, "annotations": annotations}, file)
    (tmp_path / "names.txt").write_text("\n".join(CLASSES))
    size = ("--layout", "ucla20", "--img_shape", "48", "64")
    stores = [convert(tmp_path / form, tmp_path / f"of {form}", *size) for form in ("csv", "json")]
    stores.append(
        convert(
            tmp_path / "all.pkl", tmp_path / "of pkl", "--layout", "ucla20", "--classes", str(tmp_path / "names.txt")
        )
    )
    for store in stores:
        check(store, POSES)
        assert (store.meta["dims"], set(store.columns["height"]), set(store.columns["width"])) == (2, {48}, {64})
