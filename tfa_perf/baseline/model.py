"""The report's model in plain PyTorch: ``nn.TransformerEncoder`` and a head."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from tfa_perf.config import ModelConfig

__all__ = ["TFATransformer"]


class TFATransformer(nn.Module):
    """Pre-norm encoder over all positions, head on the last: [b, T, F] -> logits [b, 1]."""

    def __init__(self, features: int, config: ModelConfig) -> None:
        super().__init__()
        self.proj = nn.Linear(features, config.d_model)
        layer = nn.TransformerEncoderLayer(
            config.d_model,
            config.nhead,
            config.ffn_hidden,
            dropout=config.dropout,
            activation=F.gelu,
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(config.d_model)
        self.head = nn.Linear(config.d_model, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.encoder(self.proj(x))
        return self.head(self.norm(h[:, -1]))
