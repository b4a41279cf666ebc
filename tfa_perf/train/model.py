"""The encoder of the legacy trainer, computed without the work whose result is thrown away."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from tfa_perf.config import ModelConfig

__all__ = ["WindowEncoder"]


class WindowEncoder(nn.Module):
    """Pre-norm transformer encoder with a head on the last position: [b, T, F] -> logits [b, 1].

    The parameters live in a plain ``nn.TransformerEncoder``, so the state dict is the one of
    the legacy model and loads either way. Two things are done differently, with equal results
    within float rounding: attention is one fused projection and one
    ``scaled_dot_product_attention``, and the last layer computes its query, attention output
    and feed-forward for the last position only, the only one that the head reads.
    """

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
        h = self.proj(x)
        *front, last = self.encoder.layers
        for layer in front:
            normed = layer.norm1(h)
            h = _feed_forward(layer, h + _attend(layer, normed, normed))
        normed = last.norm1(h)
        h = _feed_forward(last, h[:, -1:] + _attend(last, normed[:, -1:], normed))
        return self.head(self.norm(h[:, 0]))


def _attend(layer: nn.TransformerEncoderLayer, query: Tensor, source: Tensor) -> Tensor:
    """Self-attention of the positions in ``query`` [b, Q, d] over ``source`` [b, T, d]."""
    attention = layer.self_attn
    d, heads = attention.embed_dim, attention.num_heads
    weight, bias = attention.in_proj_weight, attention.in_proj_bias

    def split_heads(t: Tensor) -> Tensor:
        return t.unflatten(-1, (heads, d // heads)).transpose(1, 2)

    if query is source:
        q, k, v = F.linear(source, weight, bias).chunk(3, dim=-1)
    else:
        q = F.linear(query, weight[:d], bias[:d])
        k, v = F.linear(source, weight[d:], bias[d:]).chunk(2, dim=-1)
    dropout = attention.dropout if layer.training else 0.0
    mixed = F.scaled_dot_product_attention(
        split_heads(q), split_heads(k), split_heads(v), dropout_p=dropout
    )
    return layer.dropout1(attention.out_proj(mixed.transpose(1, 2).flatten(2)))


def _feed_forward(layer: nn.TransformerEncoderLayer, h: Tensor) -> Tensor:
    hidden = layer.dropout(layer.activation(layer.linear1(layer.norm2(h))))
    return h + layer.dropout2(layer.linear2(hidden))
