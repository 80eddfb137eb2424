"""What only a GPU can show: the same numbers as on the CPU, and a step for which the host does not wait."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import main
from processor.config_files import load_config
from tests.conftest import build_training

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


def test_same_steps_as_on_the_cpu(write_config):
    """Each from the CPU's state and batch. From step to step any rounding would grow, on one device as well: a ReLU's
    gradient jumps at 0. (Gradients on a GPU: ``python -m tools.benchmark step --device cuda`` checks ours.)
    """
    (data, on_cpu, cpu), (gpu_data, on_gpu, gpu) = (
        build_training(load_config(write_config(precision="fp64", device=device))) for device in ("cpu", "cuda")
    )
    for epoch in range(2):
        batches = (one.loaders["train"].shuffled(epoch) for one in (data, gpu_data))
        for step, (batch, other) in enumerate(zip(*batches, strict=True)):
            assert torch.equal(other.rows.cpu(), batch.rows)
            torch.testing.assert_close(other.x.cpu(), batch.x, rtol=0, atol=1e-6)
            on_gpu.network.load_state_dict(on_cpu.network.state_dict())
            gpu.mixer.load_state_dict(cpu.mixer.state_dict())
            gpu.optimizer.load_state_dict(cpu.optimizer.state_dict())
            other = replace(other, x=batch.x.to(other.x.device))
            losses = [trainer.step(one, epoch, step).cpu() for trainer, one in ((gpu, other), (cpu, batch))]
            torch.testing.assert_close(*losses, rtol=1e-7, atol=0)
            for name, values in cpu.mixer.state_dict().items():
                torch.testing.assert_close(gpu.mixer.state_dict()[name].cpu(), values, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"precision": "bf16"},
        {"device_resident": True},
        {"device_resident": False},
        {"average_weights": "ema"},
        {"partner": "class_balanced", "mix_stage": "frames", "mixing_args": {"body": "bones", "same_facing": "auto"}},
    ],
)
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
