"""docs/fine_tuning.md runs as it is written, on made-up sets of its two skeletons."""

from __future__ import annotations

import re
import shlex

import pytest

from processor import command_line
from shapmix import SkeletonLayout
from tests.made_up import write_moving_parts

from .documents import ROOT

PAGE = (ROOT / "docs/fine_tuning.md").read_text(encoding="utf-8")
COMMANDS = [line for line in re.findall(r"^python main\.py .*", PAGE, re.MULTILINE) if "--config" in line]
SMALL = ["--num_epoch", "1", "--set", "model_args.base_channel=4", "feeder_args.window_size=16", "logger=none"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The sets in ``data``, and the page's config beside them."""
    for name, layout in (("utd_mhad", "utd20"), ("msr_action3d", "msr20")):
        write_moving_parts(tmp_path / "data" / name, SkeletonLayout.get(layout), n_max=6, imbalance=1)
    (tmp_path / "data/utd_mhad.yaml").write_text("feeder_args: {data_path: data/utd_mhad}\nmixing: none\n")
    (tmp_path / "data/few.yaml").write_text(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1])
    (tmp_path / "config").symlink_to(ROOT / "config")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_runs(folder, capsys):
    assert len(COMMANDS) == 4
    for line in COMMANDS:
        assert command_line.main([*shlex.split(line)[2:], *SMALL, "report=false"]) == 0, line
    log = (folder / "work_dir/frozen/log.txt").read_text()
    (text,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    for told in text.replace(", ...", "").splitlines():
        for piece in told.split(", "):
            assert piece in log
