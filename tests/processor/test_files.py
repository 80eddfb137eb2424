"""What a run reads and writes, when it is damaged, hostile or cannot be written; consoles of all kinds."""

from __future__ import annotations

import csv
import io
import logging
import os
import sys
import zipfile

import numpy as np
import pytest
import torch

from processor.checkpoint import load_checkpoint, save_checkpoint
from processor.errors import CheckpointError
from processor.host import plain, say, spreadsheet_text, take_any_console
from processor.logs import close_log, open_log
from processor.metrics import table
from processor.run_folder import MetricsLog, RunFolder
from processor.scores import read_scores
from tests.processor.test_bad_input import fails

ESCAPE = "\x1b[31mred\x1b]0;title\x07"


class Hostile:
    """Asks for code when it is unpickled."""

    def __reduce__(self):
        return os.system, ("true",)


# --- checkpoints -----------------------------------------------------------------------------------------------------


def test_any_wrong_byte_of_the_weights(tmp_path):
    weights = torch.linspace(0, 1, 300)
    save_checkpoint(tmp_path / "best.pt", {"model": {"w": weights}, "epoch": 3})
    whole = (tmp_path / "best.pt").read_bytes()
    start = whole.index(weights.numpy().tobytes())
    for place in range(start, start + 1200, 97):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        (tmp_path / "best.pt").write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"best.pt is damaged or cut off"):
            load_checkpoint(tmp_path / "best.pt")


@pytest.mark.parametrize("old_form", [False, True])
def test_files_that_hold_code(tmp_path, old_form):
    """Nothing of torch's advice is passed on, not even as the cause."""
    torch.save({"m": Hostile()}, tmp_path / "e.pt", _use_new_zipfile_serialization=not old_form)
    with pytest.raises(CheckpointError, match=r"e.pt holds more than tensors and plain values .*system") as caught:
        load_checkpoint(tmp_path / "e.pt")
    assert "weights_only" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_weights_that_are_a_folder(capsys, write_config, tmp_path):
    save_checkpoint(tmp_path / "old" / "last.pt", {"a": 1})
    words = ["--config", write_config(num_epoch=1), "--weights", str(tmp_path / "old")]
    fails(capsys, words, "old is a folder; give a file of it: ", "old/last.pt")
    fails(capsys, [*words[:-1], str(tmp_path)], f"checkpoint {tmp_path} is a folder without a checkpoint\n")


# --- names from a user's files ---------------------------------------------------------------------------------------


def test_control_characters_are_written_out(capsys):
    assert plain(ESCAPE) == r"\x1b[31mred\x1b]0;title\x07"
    assert plain("a\rb\nc\x9b\u202e ä 中 |") == r"a\rb\nc\x9b\u202e ä 中 |"
    metrics = {"top1": 0.5, "top5": 1.0, "mean_class_accuracy": 0.5, "ece": 0.1, "per_class": [0.5]}
    assert "\x1b" not in table(metrics, [ESCAPE], [3], {})
    say(f"{ESCAPE}\nline")
    assert capsys.readouterr().out == f"{plain(ESCAPE)}\nline\n"


def test_formulas_are_text(tmp_path):
    cells = ["=1+1", "+A1", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "-1.5", "+2e-3", "a=b", "walk", ESCAPE, ""]
    content = io.StringIO()
    csv.writer(content).writerow(map(spreadsheet_text, cells))
    read = next(csv.reader(io.StringIO(content.getvalue())))
    assert read[:5] == ["'=1+1", "'+A1", "'-cmd|' /C calc'!A0", "'@SUM(A1)", r"\t=1"]
    assert read[5:] == ["-1.5", "+2e-3", "a=b", "walk", plain(ESCAPE), ""]


# --- consoles, log files ---------------------------------------------------------------------------------------------


def test_a_console_without_the_characters(monkeypatch, tmp_path):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", errors="strict"))
    take_any_console()
    with monkeypatch.context() as patch:
        patch.setattr(logging.getLogger(), "handlers", [])  # pytest's would pass the half character on to pytest-xdist
        open_log(tmp_path / "log.txt", console=True)
        logging.getLogger("processor").info("%s ± 中 \udcff", ESCAPE)
        close_log()
    sys.stdout.flush()
    assert raw.getvalue().decode() == plain(ESCAPE) + r" \xb1 \u4e2d \udcff" + "\n"
    assert (tmp_path / "log.txt").read_text(encoding="utf-8").endswith(rf"{plain(ESCAPE)} ± 中 \udcff" + "\n")


def test_a_console_that_is_gone_ends_no_run(monkeypatch, tmp_path):
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    open_log(tmp_path / "log.txt", console=True)
    logging.getLogger("processor").info("on it goes")
    close_log()
    assert "on it goes" in (tmp_path / "log.txt").read_text(encoding="utf-8")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_an_output_that_cannot_be_written(monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(OSError, match=r"standard output cannot be written \(No space left"):
            say("a table")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_log_that_cannot_be_written(capsys):
    """One line on the console, no traceback, and the run goes on."""
    open_log(None, console=True)
    open_log(RunFolder("/dev").path / "full", console=True)
    for number in range(3):
        logging.getLogger("processor").info("line %d", number)
    close_log()
    printed = capsys.readouterr()
    assert printed.out.count("/dev/full cannot be written ([Errno 28]") == 1
    assert all(f"line {number}" in printed.out for number in range(3))
    assert "Traceback" not in printed.err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_metrics_on_a_full_disk(tmp_path):
    record = MetricsLog(RunFolder(tmp_path), 0)
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(ValueError, match=r"metrics.jsonl could not be written \(No space left on device: \d+ bytes"):
        record.add({"epoch": 0})
    record.close()


# --- score files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["(99999999999999,)", "(((", "(-1,)"])
def test_score_files_with_odd_headers(tmp_path, shape):
    """Well packed, but the header asks for all memory, or is no header."""
    np.savez(tmp_path / "s.npz", ids=np.array(["a"]), scores=np.zeros((1, 2)))
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    with zipfile.ZipFile(tmp_path / "s.npz", "a") as archive:
        archive.writestr("labels.npy", b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.encode() + bytes(8))
    with pytest.raises(ValueError, match=r"s.npz is damaged"):
        read_scores(tmp_path / "s.npz")
