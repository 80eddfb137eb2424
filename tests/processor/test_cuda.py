"""What only a GPU can show: the same numbers as on the CPU, and a step for which the host does not wait."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import main
from processor.config_files import load_config
from tests.conftest import build_training

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


def test_same_as_on_the_cpu(write_config, tmp_path):
    lines = {}
    for device in ("cpu", "cuda"):
        words = ["--config", write_config(precision="fp64"), "--device", device, "--work_dir", str(tmp_path / device)]
        assert main.main(words) == 0
        lines[device] = [json.loads(line) for line in (tmp_path / device / "metrics.jsonl").read_text().splitlines()]
    for name in ("train_loss", "train_mix_loss", "test_loss"):
        found = [[line[name] for line in lines[device]] for device in ("cpu", "cuda")]
        np.testing.assert_allclose(*found, rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"precision": "bf16"}, {"device_resident": True}, {"device_resident": False}])
def test_the_host_does_not_wait(write_config, options):
    """Neither to make a batch nor in a step, once kernels and caches are there."""
    config = load_config(write_config(device="cuda", grad_clip=1.0, **options))
    data, _, trainer = build_training(config)
    loader = data.loaders["train"]
    trainer.model.train()
    for epoch in range(2):
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error" if epoch else "default")
        try:
            for step, batch in enumerate(loader.shuffled(epoch)):
                trainer.step(batch, epoch, step)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_compiled(write_config, tmp_path):
    for mode in ("true", "reduce-overhead"):
        words = ["--config", write_config(), "--device", "cuda", "--precision", "bf16", "--compile", mode]
        assert main.main([*words, "--work_dir", str(tmp_path / mode)]) == 0
