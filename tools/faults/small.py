"""A network of few operations, for runs of a second and for tests that would else wait for a compiler."""

from __future__ import annotations

from torch import Tensor, nn


class Model(nn.Module):
    """x (N, C, T, V, M) -> logits (N, K): convolution over time, batch norm, ReLU, mean, dropout, classifier."""

    def __init__(self, num_class: int, in_channels: int = 3, num_point: int = 25, drop_out: float = 0.3) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, 8, (5, 1, 1))
        self.bn = nn.BatchNorm3d(8)
        self.classifier = nn.Sequential(nn.Dropout(drop_out), nn.Linear(8 * num_point, num_class))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.bn(self.conv(x)).relu().mean((2, 4)).flatten(1))
