# mypy: ignore-errors
"""`WindowEncoder` forward and backward, a few Triton kernels a layer.

In the last layer the last row of a window alone attends and goes on to the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tfa_perf.train import _attention_triton as attention
from tfa_perf.train import _layer_triton as parts
from tfa_perf.train._layer_triton import Head, Layer
from tfa_perf.train._linear_gradient_triton import Norm, Product, linear_gradients, norm_gradients


class _Kept(NamedTuple):
    """What the backward pass of a layer needs; ``query`` is empty but in the last one."""

    h: Tensor
    query: Tensor
    qkv: Tensor
    mixed: Tensor
    middle: Tensor


class _Model(NamedTuple):
    """All parameters, weights of products in half precision."""

    weight: Tensor
    bias: Tensor
    layers: list[Layer]
    head: Head


def forward(
    x: Tensor, parameters: Sequence[Tensor], heads: int, eps: float, dtype: torch.dtype
) -> tuple[Tensor, list[Tensor]]:
    """Windows x [b, T, F] -> logits [b, 1], float32, and what `backward` needs.

    ``parameters`` are weight and bias of the input projection, layer by layer those of `Layer`, and
    those of `Head`, all float32. Values of a row of x are contiguous; windows may overlap.
    """
    halves = _in_half(parameters, dtype)
    model = _model(parameters, halves)
    *front, last = model.layers
    windows, T, _ = x.shape
    d = len(model.bias)
    x, h = parts.projected(x, model.weight, model.bias)
    kept = [halves, x]
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
    """Gradients of all ``parameters``, one behind the other, from those of the logits."""
    halves, x, *saved, top = kept
    model = _model(parameters, halves)
    saved = _in_groups(saved, len(_Kept._fields))
    flat = torch.empty(sum(p.numel() for p in parameters), device=x.device)
    sizes = [sum(p.numel() for p in part) for part in _in_parts(parameters)]
    of_projection, *of_layers, of_head = flat.split(sizes)
    gradient = parts.head_gradient(gradient, top, model.head, of_head, eps)
    for i in reversed(range(len(model.layers))):
        layer, own = model.layers[i], _Kept(*saved[i])
        of_before, of_after = of_layers[i].split(_sizes(layer))
        gradient, of_mixed = parts.after_gradient(
            gradient, own.mixed, own.middle, layer, of_after, eps
        )
        if i == len(model.layers) - 1:
            of_qkv = attention.last_backward(of_mixed, own.query, own.qkv, heads)
        else:
            of_qkv = None, attention.backward(of_mixed, own.qkv, heads)
        gradient = parts.before_gradient(*of_qkv, gradient, own.h, layer, of_before, eps)
    d, F = model.weight.shape
    linear_gradients([Product(gradient, x, d, F, 0, d * F)], of_projection)
    norm_gradients(_norms(model.layers, len(of_projection)), flat)
    return flat


def _in_half(parameters: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """The weights of products, one behind the other."""
    weights = _weights(parameters)
    halves = weights[0].new_empty(sum(p.numel() for p in weights), dtype=dtype)
    torch._foreach_copy_(_like(weights, halves), weights)
    return halves


def _weights(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [p for p in parameters[: -len(Head._fields)] if p.dim() == 2]


def _model(parameters: Sequence[Tensor], halves: Tensor) -> _Model:
    """The parameters by part, the weights of products taken from ``halves``."""
    weights = iter(_like(_weights(parameters), halves))
    # The head's own comes last, when none of them is left, and stays as it is.
    given = [next(weights, p) if p.dim() == 2 else p for p in parameters]
    *body, head = _in_parts(given)
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


def _sizes(layer: Layer) -> tuple[int, int]:
    """Values of the parameters before and after attention."""
    sizes = [p.numel() for p in layer]
    return sum(sizes[:4]), sum(sizes[4:])


def _norms(layers: Sequence[Layer], first: int) -> list[Norm]:
    """The norms of all layers, whose gradients begin at ``first``."""
    d, (before, after) = len(layers[0].norm1), _sizes(layers[0])
    norms = []
    for i, layer in enumerate(layers):
        at = first + i * (before + after)
        norms.append(Norm(layer.qkv, layer.norm1, layer.norm1_bias, at, at + before - 2 * d))
        at += before
        norms.append(
            Norm(layer.first, layer.norm2, layer.norm2_bias, at + d * (d + 1), at + after - 2 * d)
        )
    return norms
