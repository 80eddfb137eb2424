"""Small networks as classes of this package: configs of tests name them."""

from __future__ import annotations

from torch import Tensor, nn

from tools.faults import small


class Model(small.Model):
    """See tools.faults.small."""


class WithoutNorm(nn.Module):
    """x (N, C, T, V, M) -> logits (N, K), with nothing that depends on the number of processes."""

    def __init__(self, num_class: int, in_channels: int = 3, num_point: int = 25) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, 4, (5, 1, 1))
        self.classifier = nn.Linear(4 * num_point, num_class)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.conv(x).tanh().mean((2, 4)).flatten(1))
