"""Which files are takes, and what their names, folders and tables of labels say."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from feeders.convert.arrays import ARRAYS
from feeders.convert.tables import TABLE
from feeders.convert.takes import find_takes, natural
from feeders.store import DataError

FORMS = (ARRAYS, TABLE)


def fill(folder, *names, content="x0,y0,x1,y1\n1,2,3,4\n"):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def known(takes):
    return {take.id: dict(take.facts) for take in takes.takes}


def test_a_folder_per_class(tmp_path):
    fill(tmp_path, "set/wave/10.csv", "set/wave/9.csv", "set/bow down/a'é.csv", "README.md", ".DS_Store")
    found = find_takes(tmp_path, FORMS)
    assert list(known(found).items()) == [
        ("bow down/a'é", {"label": "bow down"}),
        ("wave/9", {"label": "wave"}),
        ("wave/10", {"label": "wave"}),
    ]
    assert found.left_out == {"no skeletons": {"README.md": "a file of no known form"}}
    assert found.labelled_by == "the folders"


def test_names_that_are_no_utf8(tmp_path):
    """They are written as text that every file takes; the file itself is found by its own name."""
    fill(tmp_path, "w\udcffalk/1.csv", "run/\udce9.csv")
    found = find_takes(tmp_path, FORMS)
    assert list(known(found).items()) == [
        ("run/\\udce9", {"label": "run"}),
        ("w\\udcffalk/1", {"label": "w\\udcffalk"}),
    ]
    assert all(source.read() for take in found.takes for source in take.sources)


def test_folders_of_splits(tmp_path):
    fill(tmp_path, "Training/wave/1.csv", "Training/bow/2.csv", "test/wave/3.csv", "test/bow/4.csv")
    assert known(find_takes(tmp_path, FORMS)) == {
        "Training/wave/1": {"label": "wave", "split": "train"},
        "Training/bow/2": {"label": "bow", "split": "train"},
        "test/wave/3": {"label": "wave", "split": "test"},
        "test/bow/4": {"label": "bow", "split": "test"},
    }


@pytest.mark.parametrize(
    ("names", "facts"),
    [
        (["S001C002P003R002A013", "S002C001P004R001A060"], {"label": "013", "subject": "003", "view": "002"}),
        (["a1_s3_t1_skeleton", "a27_s8_t4_skeleton"], {"label": "1", "subject": "3"}),
        (["a01_s03_e00_v02", "a12_s10_e04_v01"], {"label": "01", "subject": "03", "view": "02"}),
    ],
)
def test_names_of_public_sets(tmp_path, names, facts):
    fill(tmp_path, *(f"all/{name}.csv" for name in names))
    assert known(find_takes(tmp_path, FORMS))[names[0]] == facts


def test_a_pattern(tmp_path):
    fill(tmp_path, "kick-anna-01.csv", "walk-ben-02.csv", "notes.csv")
    found = find_takes(tmp_path, FORMS, pattern="{label}-{subject}-{}")
    assert known(found) == {
        "kick-anna-01": {"label": "kick", "subject": "anna"},
        "walk-ben-02": {"label": "walk", "subject": "ben"},
    }
    assert found.left_out == {"other name": {"notes": "does not fit pattern {label}-{subject}-{}"}}
    for wrong, reason in (
        ("{subject}_{}", "it needs {label}"),
        ("{label}_{label}", "each name once"),
        ("{label}_{who}", "{who} is none of label, subject, view, split"),
        ("x{label}x", "no name fits pattern x{label}x; the files are called kick-anna-01"),
    ):
        with pytest.raises(DataError, match=reason):
            find_takes(tmp_path, FORMS, pattern=wrong)


def test_a_table_of_labels(tmp_path):
    fill(tmp_path, "a/one.csv", "a/two.csv", "b/three.csv", "b/four.csv")
    (tmp_path / "labels.csv").write_text(
        "File;Class;Subject;Split\na/one.csv;wave;P1;Training\ntwo;bow;P2;TEST\n"
        'b\\three;"a, b";;train\nfive;bow;P1;train\n'
    )
    found = find_takes(tmp_path, FORMS)
    assert known(found) == {
        "a/one": {"label": "wave", "subject": "P1", "split": "train"},
        "a/two": {"label": "bow", "subject": "P2", "split": "test"},
        "b/three": {"label": "a, b", "split": "train"},
    }
    assert set(found.left_out) == {"no file", "no label"}
    assert list(found.left_out["no file"]) == ["five"]
    assert list(found.left_out["no label"]) == ["b/four"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("id,label\n", "a header without rows"),
        ("", "0 bytes"),
        ("name,who\none,wave\n", "it needs id and label"),
        ("id,label\none,wave\none,bow\n", "line 3: one has a label already"),
        ("id,label\none,\n", "line 2: no label"),
        ("id,label\nnine,wave\n", "none of its 1 ids is a file here; it has nine; the files are called one"),
        ("id,label\none,wave,2\n", "line 2 has 3 cells, the first line 2"),
    ],
)
def test_wrong_tables_of_labels(tmp_path, text, reason):
    fill(tmp_path, "one.csv")
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=reason) as error:
        find_takes(tmp_path, FORMS)
    assert "labels.csv" in str(error.value)


def test_one_file_a_frame(tmp_path):
    for take in ("wave/0", "wave/1", "bow/0"):
        (tmp_path / take).mkdir(parents=True)
        for frame in range(11):
            np.save(tmp_path / take / f"{frame}.npy", np.full(258, frame))
    found = find_takes(tmp_path, FORMS)
    assert known(found) == {"bow/0": {"label": "bow"}, "wave/0": {"label": "wave"}, "wave/1": {"label": "wave"}}
    assert [source.name for source in found.takes[0].sources] == [str(frame) for frame in range(11)]


def test_frames_of_several_takes_in_one_folder(tmp_path):
    for name in ("wave/first", "wave/second", "bow/third"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        for frame in (0, 1):
            np.save(tmp_path / f"{name}_{frame:012}_keypoints.npy", np.zeros(50))
    assert list(known(find_takes(tmp_path, FORMS))) == ["bow/third", "wave/first", "wave/second"]


def test_a_zip_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        archive.writestr("wave/1.csv", "x0,y0\n1,2\n")
        archive.writestr("bow/1.csv", "x0,y0\n1,2\n")
        archive.writestr("__MACOSX/bow/._1.csv", "")
    assert known(find_takes(tmp_path / "mine.zip", FORMS)) == {"bow/1": {"label": "bow"}, "wave/1": {"label": "wave"}}
    fill(tmp_path / "folder", "x.csv")
    assert list(known(find_takes(tmp_path, FORMS))) == ["folder/x", "mine/bow/1", "mine/wave/1"]


def test_the_same_name_twice(tmp_path):
    fill(tmp_path, "wave/1.csv", "wave/1.tsv", "bow/1.csv")
    found = find_takes(tmp_path, FORMS)
    assert list(known(found)) == ["bow/1", "wave/1"]
    assert list(found.left_out["duplicate name"]) == ["wave/1.tsv"]


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="holds no skeletons: it is empty"):
        find_takes(tmp_path, FORMS)
    fill(tmp_path, "notes.md")
    with pytest.raises(DataError, match="none of 1 files is of a known form"):
        find_takes(tmp_path, FORMS)
    with pytest.raises(DataError, match="does not exist"):
        find_takes(tmp_path / "else", FORMS)


def test_a_label_is_never_taken_from_another_path(tmp_path):
    fill(tmp_path, "a/1.csv", "a/2.csv", "c/5.csv")
    (tmp_path / "labels.csv").write_text("id,label\na/1,wave\na/2,wave\nb/1,bow\n5.csv,bow\n")
    found = find_takes(tmp_path, FORMS)
    assert {name: facts["label"] for name, facts in known(found).items()} == {
        "a/1": "wave",
        "a/2": "wave",
        "c/5": "bow",
    }
    assert list(found.left_out["no file"]) == ["b/1"]


@pytest.mark.parametrize("above", ["", "rec/", "mine/rec/"])
def test_ids_of_a_table_count_from_any_folder_above(tmp_path, above):
    """As in an archive of a folder with its table."""
    fill(tmp_path, "rec/a/1.csv", "rec/b/1.csv")
    (tmp_path / "rec/labels.csv").write_text(f"id,label\n{above}a/1.csv,wave\n{above}b/1.csv,bow\n")
    assert [facts["label"] for facts in known(find_takes(tmp_path, FORMS)).values()] == ["wave", "bow"]


def test_two_rows_that_contradict_each_other_about_one_take(tmp_path):
    fill(tmp_path, "a/1.csv", "a/2.csv")
    (tmp_path / "labels.csv").write_text("id,label\na/1,wave\n2,bow\n1.csv,bow\n")
    with pytest.raises(DataError, match=r"two rows, one of them 1.csv, are about the take a/1"):
        find_takes(tmp_path, FORMS)


def test_names_that_a_list_of_a_split_could_not_hold(tmp_path):
    fill(tmp_path, "sit\ndown/1 .csv", "bow/a\u2028 b.csv")
    assert known(find_takes(tmp_path, FORMS)) == {"sit down/1": {"label": "sit down"}, "bow/a b": {"label": "bow"}}


def test_labels_that_are_the_same_number_have_one_order():
    assert sorted(["1", "01", "001"], key=natural) == sorted(["001", "1", "01"], key=natural)
    assert sorted(["a10", "a2", "a", "b"], key=natural) == ["a", "a2", "a10", "b"]


def test_members_of_archives_as_other_programs_write_them(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("/rec/a/1.csv", "rec\\a\\2.csv", "rec/b/1.csv", "/rec/b/1.csv"):
            member = zipfile.ZipInfo()
            member.filename = name
            archive.writestr(member, "x0,y0,x1,y1\n1,2,3,4\n")
    found = find_takes(tmp_path / "x.zip", FORMS)
    assert {name: facts["label"] for name, facts in known(found).items()} == {"a/1": "a", "a/2": "a", "b/1": "b"}
    assert len(found.left_out["duplicate name"]) == 1


def test_a_damaged_first_frame_makes_no_takes_of_the_others(tmp_path):
    for name in ("a/1/0", "a/1/1", "a/1/2", "b/1/0"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / f"{name}.npy", np.arange(30.0))
    (tmp_path / "a/1/0.npy").write_bytes(b"\x93NUMPY")
    assert [len(take.sources) for take in find_takes(tmp_path, FORMS).takes] == [3, 1]
