"""pyproject.toml agrees with requirements.txt and with the folders; what it builds installs and works."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

import shapmix

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROGRAM = ("model", "feeders", "processor", "tools")


def test_the_extra_is_what_requirements_txt_lists():
    """Each line there has its reason above it; torch has a lower bound of its own in pyproject.toml."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    needed = [line for line in lines if not line.startswith("#")]
    assert [lines[lines.index(line) - 1][:2] for line in needed] == ["# "] * len(needed)
    assert needed[0].startswith("torch==")
    assert needed[1:] == PROJECT["project"]["optional-dependencies"]["train"]
    assert [re.split(r"\W", line)[0] for line in PROJECT["project"]["dependencies"]] == ["torch"]


def test_the_commands_exist():
    for target in PROJECT["project"]["scripts"].values():
        package, _, function = target.partition(":")
        folder = PROJECT["tool"]["setuptools"]["package-dir"][package]
        assert callable(getattr(importlib.import_module(folder.replace("/", ".")), function))


# --- what it builds, without a network -------------------------------------------------------------------------------

BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
USE = """
import torch, shapmix, model.own
counts, x, y = [4, 2], torch.randn(6, 2, 8, 25, 3), torch.tensor([0, 0, 0, 0, 1, 1])
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2 * 8 * 25 * 3, 2))
mixer = shapmix.ShapMix("ntu25", counts, x.mean(0), input_format="NMTVC")
mixer.start_step(0, 0)
mixer.observe(network, x, y)
shapmix.LogitAdjustedLoss(counts)(network(mixer(x, y)[0]), mixer(x, y)[1]).backward()
print(shapmix.__version__, shapmix.__file__)
"""


def run(*words, folder):
    done = subprocess.run([sys.executable, *map(str, words)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist, and the wheel that is made of it."""
    pytest.importorskip("setuptools", "77")
    folder, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("shapmix", *PROGRAM, "README.md", "LICENSE", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    run("-c", BUILD, "build_sdist", dist, folder=folder)
    (sdist,) = dist.iterdir()
    with tarfile.open(sdist) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 and newer
        archive.extractall(folder / "unpacked")
    (unpacked,) = (folder / "unpacked").iterdir()
    run("-c", BUILD, "build_wheel", dist, folder=unpacked)
    (wheel,) = dist.glob("*.whl")
    return SimpleNamespace(sdist=sdist, wheel=wheel)


def test_one_version(built):
    assert re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}(-[\w.]+)?", shapmix.__version__), "https://semver.org"
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert built.sdist.name == f"shapmix-{shapmix.__version__}.tar.gz"
    assert built.wheel.name == f"shapmix-{shapmix.__version__}-py3-none-any.whl"


def test_the_wheel_holds_every_file(built):
    """Also those that are no Python; and none that the folders do not have."""
    found = {name for name in zipfile.ZipFile(built.wheel).namelist() if ".dist-info/" not in name}
    there = {"shapmix_train/__init__.py"}
    for top in ("shapmix", *PROGRAM):
        names = {path.relative_to(ROOT).as_posix() for path in (ROOT / top).rglob("*") if path.is_file()}
        there |= {f"shapmix_train/{name}" if top in PROGRAM else name for name in names if "__pycache__" not in name}
    assert found == there - {"shapmix_train/processor/installed/__init__.py"}


def test_a_clean_environment(built, tmp_path):
    """The wheel in a new environment, to which a path file lends torch, beside a project with a folder ``model``."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "own.py").touch()
    builder = venv.EnvBuilder(symlinks=sys.platform != "win32")
    builder.create(tmp_path / "env")
    python = builder.ensure_directories(tmp_path / "env").env_exe
    run("-m", "pip", "--python", python, "install", "--no-index", "--no-deps", built.wheel, folder=tmp_path)
    (packages,) = (tmp_path / "env").rglob("site-packages")
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib"))
    done = subprocess.run([python, "-c", USE], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    version, file = done.stdout.split()
    assert version == shapmix.__version__
    assert packages in Path(file).parents
    (command,) = Path(python).parent.glob("shapmix-train*")
    done = subprocess.run([command, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, "--base_lr" in done.stdout) == (0, True), done.stderr


def test_the_index_would_take_it(built):
    pytest.importorskip("twine")
    said = run("-m", "twine", "--no-color", "check", "--strict", built.sdist, built.wheel, folder=built.wheel.parent)
    assert said.count("PASSED") == 2
