# mypy: ignore-errors
"""`WindowEncoder` forward and backward, a few Triton kernels a layer.

In the last layer the last row of a window alone attends and goes on to the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tfa_perf.data.device_windows import spaced_columns
from tfa_perf.train import _attention_triton as attention
from tfa_perf.train import _layer_triton as parts
from tfa_perf.train._layer_triton import Head, Layer
from tfa_perf.train._linear_gradient_triton import (
    Norm,
    Product,
    add_up,
    norm_gradients,
    partial_sums,
)


class _Kept(NamedTuple):
    """What the backward pass of a layer needs; ``query`` is empty but in the last one."""

    h: Tensor
    query: Tensor
    qkv: Tensor
    mixed: Tensor
    middle: Tensor


class _Model(NamedTuple):
    """All parameters, weights of layers in half precision."""

    weight: Tensor
    bias: Tensor
    layers: list[Layer]
    head: Head


def forward(
    x: Tensor,
    parameters: Sequence[Tensor],
    heads: int,
    eps: float,
    dtype: torch.dtype,
    spaced: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Windows x [b, T, F] -> logits [b, 1], float32, and what `backward` needs.

    ``parameters`` are weight and bias of the input projection, layer by layer those of `Layer`, and
    those of `Head`, all float32. Values of a row of x are contiguous; windows may overlap. Or x is
    ``spaced``: of ``dtype``, one row behind the other, `spaced_columns` apart. Then it is no part
    of what is kept.
    """
    weights = _weights(parameters)
    halves = x.new_empty(sum(w.numel() for w in weights), dtype=dtype)
    model = _model(parameters, halves)
    *front, last = model.layers
    windows, T, _ = x.shape
    d = len(model.bias)
    if spaced:
        x = _with_gaps(x)
    half, h = parts.projected(x, model.weight, model.bias, weights, halves, spaced)
    kept = [halves, half.new_empty(0) if spaced else half]
    for layer in front:
        qkv = h.new_empty((windows, T, 3 * d))
        parts.before(h, layer, None, qkv, eps)
        mixed = attention.forward(qkv, heads)
        middle, out = parts.after(h, mixed, layer, 1, eps)
        kept += _Kept(h, h.new_empty(0), qkv, mixed, middle)
        h = out
    query, kv = h.new_empty((windows, d)), h.new_empty((windows, T, 2 * d))
    parts.before(h, last, query, kv, eps)
    mixed = attention.last_forward(query, kv, heads)
    middle, out = parts.after(h, mixed, last, T, eps)
    kept += [*_Kept(h, query, kv, mixed, middle), out]
    return parts.logits(out, model.head, eps), kept


def backward(
    gradient: Tensor,
    parameters: Sequence[Tensor],
    kept: Sequence[Tensor],
    heads: int,
    eps: float,
) -> Tensor:
    """Gradients of all ``parameters``, one behind the other, from those of the logits.

    In ``kept``, a spaced x takes the place that `forward` left empty.
    """
    halves, x, *saved, top = kept
    if x.dim() == 3:
        x = _with_gaps(x).flatten(0, 1)
    model = _model(parameters, halves)
    saved = _in_groups(saved, len(_Kept._fields))
    flat = torch.empty(sum(p.numel() for p in parameters), device=x.device)
    starts = _starts(parameters)
    gradient = parts.head_gradient(gradient, top, model.head, flat[starts[-1] :], eps)
    sums = []
    for i in reversed(range(len(model.layers))):
        layer, own, place = model.layers[i], _Kept(*saved[i]), starts[i + 1]
        gradient, of_mixed, some = parts.after_gradient(
            gradient, own.mixed, own.middle, layer, place + _before(layer), eps
        )
        sums.append(some)
        if i == len(model.layers) - 1:
            of_qkv = attention.last_backward(of_mixed, own.query, own.qkv, heads)
        else:
            of_qkv = None, attention.backward(of_mixed, own.qkv, heads)
        gradient, some = parts.before_gradient(*of_qkv, gradient, own.h, layer, place, eps)
        sums.append(some)
    d, F = model.weight.shape
    sums.append(partial_sums([Product(gradient, x, d, F, 0, d * F)], 0))
    add_up(sums, flat)
    norm_gradients(_norms(model.layers, starts), flat)
    return flat


def _with_gaps(x: Tensor) -> Tensor:
    """x [b, T, F] with as many columns as lie from one spaced row to the next."""
    windows, T, F = x.shape
    wide = spaced_columns(F)
    shape, strides = (windows, T, wide), (T * wide, wide, 1)
    end = x.storage_offset() + windows * T * wide
    if x.stride() == strides and end * x.itemsize <= x.untyped_storage().nbytes():
        return x.as_strided(shape, strides)
    # Its memory may end with the last value that counts.
    return nn.functional.pad(x, (0, wide - F))


def _weights(parameters: Sequence[Tensor]) -> list[Tensor]:
    """The weights of products that read halves: all but the input projection's."""
    return [p for p in parameters[1 : -len(Head._fields)] if p.dim() == 2]


def _model(parameters: Sequence[Tensor], halves: Tensor) -> _Model:
    """The parameters by part, the weights of products taken from ``halves``."""
    weights = iter(_like(_weights(parameters), halves))
    # The head's own comes last, when none of them is left, and stays as it is.
    given = [next(weights, p) if p.dim() == 2 else p for p in parameters[1:]]
    *body, head = _in_parts([parameters[0], *given])
    (weight, bias), *layers = body
    return _Model(weight, bias, [Layer(*some) for some in layers], Head(*head))


def _like(tensors: Sequence[Tensor], flat: Tensor) -> list[Tensor]:
    places = flat.split([t.numel() for t in tensors])
    return [place.view(t.shape) for place, t in zip(places, tensors, strict=True)]


def _in_parts(parameters: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    """Those of the input projection, of each layer and of the head."""
    end = len(parameters) - len(Head._fields)
    layers = _in_groups(parameters[2:end], len(Layer._fields))
    return [parameters[:2], *layers, parameters[end:]]


def _in_groups(items: Sequence[Tensor], size: int) -> list[Sequence[Tensor]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _starts(parameters: Sequence[Tensor]) -> list[int]:
    """Where those parts begin in the flat gradient."""
    sizes = [sum(p.numel() for p in part) for part in _in_parts(parameters)]
    return [sum(sizes[:i]) for i in range(len(sizes))]


def _before(layer: Layer) -> int:
    """Values of the parameters before attention."""
    return sum(p.numel() for p in layer[:4])


def _norms(layers: Sequence[Layer], starts: Sequence[int]) -> list[Norm]:
    d = len(layers[0].norm1)
    norms = []
    for layer, first, end in zip(layers, starts[1:-1], starts[2:], strict=True):
        second = first + _before(layer)
        norms.append(Norm(layer.qkv, layer.norm1, layer.norm1_bias, first, second - 2 * d))
        # Behind the output projection.
        at = second + d * (d + 1)
        norms.append(Norm(layer.first, layer.norm2, layer.norm2_bias, at, end - 2 * d))
    return norms
