"""What the examples train: logits [b, 1] of windows [b, 48, F]."""

from __future__ import annotations

from torch import Tensor, nn


def small(features: int) -> nn.Module:
    """One hidden layer: data is a good part of its step."""
    return nn.Sequential(nn.Flatten(), nn.Linear(48 * features, 16), nn.ReLU(), nn.Linear(16, 1))


class Encoder(nn.Module):
    """A small transformer: on a CPU it is nearly all of its step."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.project = nn.Linear(features, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.project(x))[:, -1])
