"""The command: files of several forms, people, windows, streams, bad input."""

from __future__ import annotations

import csv
import io
import json
import os
from itertools import pairwise

import numpy as np
import pytest

import main
from feeders.store import DataError
from feeders.synthetic import Feeder
from processor.recognition import Recognizer
from processor.recognition import stream as stream_of_lines
from processor.recognition.given import Given
from processor.scores import read_scores
from tests.conftest import tiny_config
from tools import predict

TEST = {"num_test": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on the made-up set, and its test sequences (L, 1, 25, 3) by id."""
    import yaml

    folder = tmp_path_factory.mktemp("predict")
    (folder / "run.yaml").write_text(yaml.safe_dump(tiny_config(folder)))
    assert main.main(["--config", str(folder / "run.yaml")]) == 0
    feeder = Feeder("test", num_test=2, window_size=16, cache_dir=str(folder / "cache"))
    frames = {name: np.array(feeder.store.sequence(int(m))) for name, m in zip(feeder.ids, feeder.members, strict=True)}
    return folder / "run", frames, feeder.store.path


def said(capsys, *words: object) -> list[dict]:
    """What the command answers as JSON, which must succeed."""
    capsys.readouterr()
    assert predict.main([str(word) for word in words] + ["--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_files_and_stores(run, tmp_path, capsys):
    """As recorded: from the store, and from files of one sequence each, in two forms."""
    folder, frames, store = run
    recorded = read_scores(folder / "scores_test.npz")
    wanted = [recorded.names[row] for row in recorded.scores.argmax(1)]
    rows = said(capsys, folder, store)
    assert [row["id"] for row in rows] == recorded.ids
    assert [row["label"] for row in rows] == wanted
    for name, sequence in frames.items():
        np.save(tmp_path / f"{name}.npy", sequence[:, 0])
    assert [row["label"] for row in said(capsys, folder, tmp_path)] == [
        wanted[recorded.ids.index(name)] for name in sorted(frames)
    ]
    one, name = next((tmp_path / f"{name}.npy", name) for name in frames)
    (row,) = said(capsys, folder, one, "--top", 3, "--explain")
    assert row["id"] == str(one)
    assert row["label"] == wanted[recorded.ids.index(name)]
    assert row["last_frame"] == len(frames[name]) - 1
    assert len(row["top"]) == 3
    assert row["parts"].keys() == {"trunk", "right_arm", "left_arm", "right_leg", "left_leg"}


def test_windows_of_a_long_sequence(run, tmp_path, capsys):
    """Three performances one after the other: segments cover all frames, in order, with the mean probabilities."""
    folder, frames, _ = run
    long = np.concatenate([sequence[:, 0] for sequence in list(frames.values())[:3]])
    np.save(tmp_path / "long.npy", long)
    rows = said(capsys, folder, tmp_path / "long.npy", "--window", 32, "--stride", 8, "--smooth", 3)
    assert rows[0]["first_frame"] == 0
    assert rows[-1]["last_frame"] == len(long) - 1
    for one, other in pairwise(rows):
        assert other["first_frame"] == one["last_frame"] + 1
        assert other["label"] != one["label"]
    (whole,) = said(capsys, folder, tmp_path / "long.npy", "--window", 10_000)
    assert whole["last_frame"] == len(long) - 1
    whole_too, _ = Recognizer.from_checkpoint(folder, device="cpu")(long[:, None]), capsys.readouterr()
    assert whole["probability"] == pytest.approx(whole_too.probability, abs=1e-6)


def test_windows_are_made_when_they_are_needed(run, tmp_path, capsys, monkeypatch):
    """Few are in memory, and nobody sees it; one that the network cannot use spoils no other."""
    folder, frames, _ = run
    long = np.concatenate([sequence[:, 0] for sequence in list(frames.values())[:2]])
    np.save(tmp_path / "a.npy", long)
    long[0] += 2e6
    np.save(tmp_path / "b.npy", long)
    words = tmp_path, "--window", 32, "--stride", 4, "--explain"
    wanted, numbers, keep = said(capsys, folder, *words), [], (Recognizer.probabilities, Given.sample)

    def probabilities(recognizer, samples):
        numbers.append(len(samples))
        return keep[0](recognizer, samples)

    def sample(given, *others):
        numbers.append(0)
        return keep[1](given, *others)

    monkeypatch.setattr(Recognizer, "probabilities", probabilities)
    monkeypatch.setattr(Given, "sample", sample)
    monkeypatch.setattr("processor.recognition.predict.AT_ONCE", 4)
    rows = said(capsys, folder, *words)
    assert [row["label"] for row in rows] == [row["label"] for row in wanted]
    for one, other in zip(rows, wanted, strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)
        assert one["parts"] == pytest.approx(other["parts"], abs=1e-5)
    assert numbers[:5] == [0, 0, 0, 0, 4]
    assert next(row["first_frame"] for row in rows if row["id"] == str(tmp_path / "b.npy")) == 4


def test_each_person_has_a_label(run, tmp_path, capsys):
    folder, frames, _ = run
    first, second = (sequence[:40] for sequence in list(frames.values())[:2])
    both = np.concatenate([first, second + np.array([3, 0, 0])], axis=1)
    np.save(tmp_path / "both.npy", both)
    rows = said(capsys, folder, tmp_path / "both.npy", "--axes", "TMVC")
    assert [row["person"] for row in rows] == [1, 2]
    recognizer = Recognizer.from_checkpoint(folder, device="cpu")
    for row, alone in zip(rows, (first, second), strict=True):
        assert row["probability"] == pytest.approx(recognizer(alone).probability, abs=1e-5)
    assert len(said(capsys, folder, tmp_path / "both.npy", "--axes", "TMVC", "--people", "together")) == 1


def test_csv_and_a_file(run, capsys, tmp_path):
    folder, frames, store = run
    out = tmp_path / "new" / "labels.csv"
    assert predict.main([str(folder), str(store), "--csv", "--top", "2", "--explain", "--out", str(out)]) == 0
    header, *rows = csv.reader(io.StringIO(out.read_text()))
    assert header[:8] == [
        "id",
        "person",
        "first_frame",
        "last_frame",
        "label",
        "probability",
        "label_2",
        "probability_2",
    ]
    assert header[8:] == [f"shapley_{part}" for part in ("trunk", "right_arm", "left_arm", "right_leg", "left_leg")]
    assert [row[0] for row in rows] == list(frames)
    assert all(float(row[5]) >= float(row[7]) for row in rows)


def test_what_cannot_be_used_is_named_and_the_rest_goes_on(run, tmp_path, capsys):
    folder, frames, _ = run
    sequence = next(iter(frames.values()))[:, 0]
    np.save(tmp_path / "a_short.npy", sequence[:1])
    np.save(tmp_path / "b_good.npy", sequence)
    np.save(tmp_path / "c_other.npy", sequence[:, :17])
    np.save(tmp_path / "d_huge.npy", sequence * 1e9)
    (tmp_path / "e.txt").write_text("nothing")
    assert predict.main([str(folder), str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert "b_good" in printed.out
    assert len(printed.out.splitlines()) == 1
    for name, reason in (("a_short", "too short: 1 frame"), ("c_other", "joints"), ("d_huge", "values up to 1")):
        assert any(name in line and reason in line for line in printed.err.splitlines()), printed.err


def stream(run, capsys, monkeypatch, lines, *words):
    content = b"".join(line if isinstance(line, bytes) else f"{line}\n".encode() for line in lines)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    capsys.readouterr()
    code = predict.main([str(run[0]), "-", "--json", *words])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_stream(run, capsys, monkeypatch):
    """A live person frame by frame gives what the same frames in a file give; bad lines have their own answer."""
    folder, frames, _ = run
    sequence = next(sequence for sequence in frames.values() if len(sequence) >= 48)[:48]
    live = [json.dumps({"joints": frame[0].tolist()}) for frame in sequence]
    lines = [*live[:10], "{no json", *live[10:], '{"joints": [[1, 2]]}', '["a list"]', "", '{"frames": [[["x"]]]}']
    lines += [json.dumps({"id": "whole", "frames": sequence[:32].tolist()}), "[" * 100_000]
    code, rows = stream(run, capsys, monkeypatch, lines, "--window", "32", "--stride", "16")
    assert code == 2
    assert [(row["id"], row.get("line")) for row in rows] == [
        (None, 11), ("stream", None), ("stream", None), ("stream", 50), (None, 51), (None, 53), ("whole", None),
        (None, 55),
    ]  # fmt: skip
    assert all(row["error"] for row in rows if "label" not in row)
    recognizer = Recognizer.from_checkpoint(folder, device="cpu")
    for row, first in zip([rows[1], rows[2]], (0, 16), strict=True):
        assert (row["first_frame"], row["last_frame"]) == (first, first + 31)
        assert row["probability"] == pytest.approx(recognizer(sequence[first : first + 32]).probability, abs=1e-5)
    assert rows[6]["probability"] == pytest.approx(recognizer(sequence[:32]).probability, abs=1e-5)


def test_a_stream_goes_on_after_bytes_that_are_no_text(run, capsys, monkeypatch):
    """Nobody in a frame is no error: the person comes back."""
    _, frames, _ = run
    live = [json.dumps({"joints": joints}) for joints in next(iter(frames.values()))[:34, 0].tolist()]
    nobody = json.dumps({"joints": [[None] * 3] * 25})
    lines = [b"\xff\n", *live[:5], nobody, *live[6:]]
    code, rows = stream(run, capsys, monkeypatch, lines, "--window", "32")
    assert code == 2
    assert (rows[0]["line"], "utf-8" in rows[0]["error"]) == (1, True)
    assert [(row["first_frame"], row["last_frame"]) for row in rows[1:]] == [(0, 31), (2, 33)]


def test_stream_of_people(run, capsys, monkeypatch):
    """Each has windows of their own; null is a joint that was not seen."""
    _, frames, _ = run
    one, two = (sequence[:40, 0].tolist() for sequence in list(frames.values())[:2])
    one[7][4] = [None, None, None]
    lines = [json.dumps({"id": "hall", "people": {"anna": a} | ({"ben": b} if number > 3 else {})})
             for number, (a, b) in enumerate(zip(one, two, strict=False))]  # fmt: skip
    code, rows = stream(run, capsys, monkeypatch, lines, "--window", "32", "--stride", "16", "--explain")
    assert code == 0
    assert [(row["id"], row["person"], row["first_frame"]) for row in rows] == [
        ("hall", person, first) for person, first in (("anna", 0), ("ben", 4), ("anna", 8), ("ben", 8))
    ]
    assert all(len(row["parts"]) == 5 for row in rows)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["{run}", "nowhere"], "error: nowhere: does not exist"),
        (["nowhere", "{store}"], "checkpoint nowhere does not exist"),
        (["{run}", "{store}", "--window", "1"], "--window must be at least 2; got 1"),
        (["{run}", "{store}", "--plugin", "no_such_package"], "--plugin no_such_package: no package"),
        (["{run}", "{store}", "--plugin", ".."], "--plugin ..: no package"),
        (["tests", "{store}"], "checkpoint tests is a folder without a checkpoint"),
        (["{run}", "{store}", "--top", "0"], "--top must be at least 1"),
        (["{run}", "{store}", "--smooth", "3"], "--smooth needs --window"),
        (["{run}", "{store}", "-"], "or - alone"),
    ],
)
def test_bad_words(words, wanted, run, capsys):
    folder, _, store = run
    assert predict.main([word.format(run=folder, store=store) for word in words]) == 2
    assert wanted in capsys.readouterr().err


def test_who_reads_the_output_may_stop(run, monkeypatch, capsys):
    """As ``| head`` does: no traceback, no message, not even from Python at its end."""
    folder, _, store = run
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as output:
        monkeypatch.setattr("sys.stdout", output)
        assert predict.main([str(folder), str(store)]) == 141
    assert capsys.readouterr().err.splitlines()[1:] == []


def test_the_recording_is_not_overwritten(run, tmp_path, capsys):
    folder, frames, _ = run
    np.save(tmp_path / "x.npy", next(iter(frames.values()))[:, 0])
    before = (tmp_path / "x.npy").read_bytes()
    assert predict.main([str(folder), str(tmp_path / "x.npy"), "--out", str(tmp_path / "x.npy")]) == 2
    assert "is one of FILES" in capsys.readouterr().err
    assert (tmp_path / "x.npy").read_bytes() == before


def test_a_place_that_is_not_there_stops_no_other(run, tmp_path, capsys):
    folder, frames, _ = run
    np.save(tmp_path / "x.npy", next(iter(frames.values()))[:, 0])
    assert predict.main([str(folder), str(tmp_path / "x.npy"), str(tmp_path / "nowhere")]) == 2
    printed = capsys.readouterr()
    assert printed.out.startswith(str(tmp_path / "x.npy"))
    assert "nowhere: does not exist" in printed.err


def test_a_stream_that_ends_within_a_window(run, capsys, monkeypatch):
    """What was seen last has an answer, also of a person who left long ago; a number beyond all others is an error."""
    _, frames, _ = run
    one = next(iter(frames.values()))[:20, 0].tolist()
    lines = [json.dumps({"people": {"anna": frame}}) for frame in one]
    lines += [json.dumps({"people": {"ben": one[n % 20]}}) for n in range(40)]
    lines.append('{"joints": [[1' + 400 * "0" + ", 0, 0]]}")
    code, rows = stream(run, capsys, monkeypatch, lines, "--window", "32")
    assert code == 2
    assert [(row.get("person"), row.get("first_frame"), row.get("last_frame")) for row in rows if "label" in row] == [
        ("ben", 20, 51), ("anna", 0, 19), ("ben", 28, 59),
    ]  # fmt: skip
    (problem,) = [row for row in rows if "error" in row]
    assert (problem["id"], problem["line"]) == ("stream", 61)


def test_streams_end(run, capsys, monkeypatch):
    """Where a line says so, and the one that is silent for longest where there are too many; a name may come again."""
    _, frames, _ = run
    one = next(iter(frames.values()))[:20, 0].tolist()
    monkeypatch.setattr(stream_of_lines, "MOST", 2)
    lines = [json.dumps({"id": name, "joints": joints}) for name in ("a", "b", 3, "a") for joints in one]
    lines.insert(20, '{"id": "a", "end": true}')
    lines += ['{"id": "b", "end": true}'] * 2 + ['{"id": 3, "end": false}', '{"id": 3, "end": true, "joints": []}']
    code, rows = stream(run, capsys, monkeypatch, lines)
    assert code == 2
    assert [(row["id"], row["first_frame"], row["last_frame"]) for row in rows if "label" in row] == [
        ("a", 0, 19), ("b", 0, 19), ("3", 0, 19), ("a", 0, 19)
    ]  # fmt: skip
    errors = [(row["id"], row["line"], row["error"]) for row in rows if "error" in row]
    assert [error[:2] for error in errors] == [("b", 82), ("b", 83), ("3", 84), ("3", 85)]
    assert "no live stream" in errors[0][2]
    assert "it has joints and end" in errors[3][2]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('{"joints": [], "people": {}}', "it has joints and people"),
        ('{"id": [1], "joints": []}', "id is [1]; it is a text or a whole number"),
        ('{"id": true, "joints": []}', "id is true"),
        ("3", "no object of JSON; wanted"),
        ('{"id": null}', "it has no frames, joints, people; wanted"),
        ('{"people": 3}', "people is 3; wanted"),
        ('{"joints": [], "size": [0, 4]}', "size is [0, 4]"),
        ('{"joints": [], "size": [true, true]}', "size is [True, True]"),
        ('{"id": "a", "joints": [], "id": "b"}', "the key 'id' occurs more than once"),
    ],
)
def test_bad_lines(line, wanted, run, capsys, monkeypatch):
    code, (row,) = stream(run, capsys, monkeypatch, [line])
    assert code == 2
    assert row["error"].startswith(wanted)


def test_a_line_without_end(monkeypatch):
    """It is answered as soon as it is too long, and takes no more memory; the next line is read as it is."""
    monkeypatch.setattr(stream_of_lines, "LONGEST", 8)
    lines = stream_of_lines.read_lines(io.BytesIO(b"1234567\n" + b"x" * 50 + b"\n12345678\n1\n" + b"y" * 9))
    assert [len(line) for line in lines] == [8, 9, 9, 2, 9]
    with pytest.raises(DataError, match="it is longer than 0 MB; send fewer frames"):
        stream_of_lines._object("x" * 9)


def test_whole_sequences_of_a_stream_are_cut_too(run, tmp_path, capsys, monkeypatch):
    folder, frames, _ = run
    long = np.concatenate([sequence[:, 0] for sequence in list(frames.values())[:3]])
    np.save(tmp_path / "long.npy", long)
    line, cut = json.dumps({"id": "long", "frames": long.tolist()}), ("--window", "32", "--stride", "8")
    for words in ((), cut):
        wanted = said(capsys, folder, tmp_path / "long.npy", *words)
        _, rows = stream(run, capsys, monkeypatch, [line], *words)
        assert [row | {"id": ""} for row in rows] == [row | {"id": ""} for row in wanted]


def test_frames_without_people_count(run, capsys, monkeypatch):
    """The numbers of frames are those that were sent."""
    _, frames, _ = run
    sequence = next(iter(frames.values()))[:30, 0]
    empty = np.full((10, *sequence.shape[1:]), np.nan)
    lines = [json.dumps({"id": "a", "frames": np.concatenate([empty, sequence]).tolist()})]
    code, (row,) = stream(run, capsys, monkeypatch, lines)
    assert code == 0
    assert (row["first_frame"], row["last_frame"]) == (0, 39)


def test_windows_without_people_have_no_label(run, tmp_path, capsys):
    """The lines leave a hole where nobody is, and the log says so."""
    folder, frames, _ = run
    one = next(iter(frames.values()))[:40, 0]
    np.save(tmp_path / "hole.npy", np.concatenate([one, np.full((100, *one.shape[1:]), np.nan), one]))
    capsys.readouterr()
    assert predict.main([str(folder), str(tmp_path / "hole.npy"), "--json", "--window", "32", "--stride", "8"]) == 0
    printed = capsys.readouterr()
    rows = [json.loads(line) for line in printed.out.splitlines()]
    labelled = np.zeros(180, bool)
    for row in rows:
        labelled[row["first_frame"] : row["last_frame"] + 1] = True
    assert labelled[:40].all()
    assert labelled[140:].all()
    assert not labelled[57:123].any()
    assert "windows are left out, such as that of frames" in printed.err
