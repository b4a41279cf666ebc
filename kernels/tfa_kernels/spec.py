"""Feature specs: which columns a feature matrix has, read from JSON, YAML or a mapping."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tfa_kernels.documents import (
    JSON_BYTES,
    YAML_BYTES,
    DocumentError,
    load_json,
    load_yaml,
    read_text,
)
from tfa_kernels.ops import COMPOSITES, CONVENTIONS, OPS, SOURCES, bar_columns

_DEFAULT_CONVENTION = {"1.0": "legacy", "2.0": "talib"}
_TOP_KEYS = ("schema_version", "convention", "features", "alignment_policy", "dtype")
_ALIGNMENT_KEYS = ("emit_from_index", "pad_value")
_TIMESTAMPS = frozenset({"ts", "timestamp", "time", "datetime", "date"})
MAX_ROWS = 2**31 - 1


class SpecError(ValueError):
    """A feature spec that cannot be used; the message names the entry."""


def _listed(names: Any) -> str:
    return ", ".join(names)


def _integer(value: object, what: str, low: int) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise SpecError(f"{what} must be an integer, got {value!r}")
    if not low <= value <= MAX_ROWS:
        raise SpecError(f"{what} is {value}; allowed: {low}..{MAX_ROWS}")
    return int(value)


def _parameter(value: object, key: str, default: float) -> float:
    """A period where the default is an integer, any finite number otherwise."""
    if isinstance(default, int):
        return _integer(value, key, 1)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise SpecError(f"{key} must be a finite number, got {value!r}")
    return float(value)


@dataclass(frozen=True)
class Feature:
    """One column.

    window None takes the op's default, and stays None where the op has none. params: the values of
    the op's further keys, in the order of ``OPS[op].params``; none given takes the defaults.
    """

    name: str
    op: str
    source: str = "close"
    window: int | None = None
    params: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise SpecError(f"name must be a non-empty string, got {self.name!r}")
        if self.name.lower() in _TIMESTAMPS or str(self.source).lower() in _TIMESTAMPS:
            raise SpecError("a timestamp is not a feature; remove the entry")
        if not isinstance(self.op, str) or not isinstance(self.source, str):
            raise SpecError(f"op and source must be strings, got {self.op!r}, {self.source!r}")
        if self.op not in OPS:
            raise SpecError(f"unknown op {self.op!r}; available: {_listed(OPS)}")
        if self.source not in SOURCES:
            raise SpecError(f"unknown source {self.source!r}; allowed: {_listed(SOURCES)}")
        default = OPS[self.op].window
        if default is None:
            if self.window is not None:
                raise SpecError(f"op {self.op} takes no window; remove the key")
        else:
            window = default if self.window is None else _integer(self.window, "window", 1)
            object.__setattr__(self, "window", window)
        keys = OPS[self.op].params
        given = self.params or tuple(default for _, default in keys)
        if len(given) != len(keys):
            raise SpecError(f"op {self.op} has {len(keys)} params, got {self.params!r}")
        params = tuple(
            _parameter(value, key, default)
            for value, (key, default) in zip(given, keys, strict=True)
        )
        object.__setattr__(self, "params", params)

    @property
    def columns(self) -> tuple[str, ...]:
        """What is read: bar columns or DERIVED ones; a composite means close to a one-column op."""
        if OPS[self.op].inputs:
            return OPS[self.op].inputs
        return ("close" if self.source in COMPOSITES else self.source,)


@dataclass(frozen=True)
class FeatureSpec:
    """A validated spec.

    Rows of a series below emit_from_index hold pad_value. convention "" takes the schema version's
    own: "legacy" for 1.0, "talib" for 2.0.
    """

    features: tuple[Feature, ...]
    schema_version: str = "2.0"
    convention: str = ""
    emit_from_index: int = 0
    pad_value: float = 0.0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if not isinstance(self.schema_version, str) or (
            self.schema_version not in _DEFAULT_CONVENTION
        ):
            raise SpecError(
                f"schema_version is {self.schema_version!r}; allowed: the strings "
                f"{_listed(map(repr, _DEFAULT_CONVENTION))} (quote it in YAML)"
            )
        if self.convention == "":
            object.__setattr__(self, "convention", _DEFAULT_CONVENTION[self.schema_version])
        if self.convention not in CONVENTIONS:
            raise SpecError(
                f"convention is {self.convention!r}; allowed: {_listed(map(repr, CONVENTIONS))}"
            )
        if self.dtype != "float32":
            raise SpecError(f"dtype is {self.dtype!r}; allowed: 'float32'")
        emit = _integer(self.emit_from_index, "alignment_policy.emit_from_index", 0)
        object.__setattr__(self, "emit_from_index", emit)
        pad = self.pad_value
        if isinstance(pad, bool) or not isinstance(pad, (int, float)):
            raise SpecError(f"alignment_policy.pad_value must be a number, got {pad!r}")
        if not (math.isnan(pad) or abs(pad) <= float(np.finfo(np.float32).max)):
            raise SpecError(f"alignment_policy.pad_value is {pad}; it must fit float32 or be NaN")
        object.__setattr__(self, "pad_value", float(pad))
        if not self.features:
            raise SpecError("features is empty; give at least one entry")
        object.__setattr__(self, "features", tuple(self.features))
        first: dict[str, int] = {}
        for i, feature in enumerate(self.features):
            if not isinstance(feature, Feature):
                raise SpecError(f"features[{i}] must be a Feature, got {feature!r}")
            if feature.name in first:
                raise SpecError(
                    f"features[{i}] ({feature.name!r}): the name is already used by "
                    f"features[{first[feature.name]}]"
                )
            first[feature.name] = i

    def __hash__(self) -> int:
        # A cached string: the generated method would go through every feature at every call.
        return hash(self.hash)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    @cached_property
    def bar_columns(self) -> tuple[str, ...]:
        """The columns of bars that the features are made of."""
        read = [name for feature in self.features for name in feature.columns]
        return tuple(dict.fromkeys(bar for name in read for bar in bar_columns(name)))

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) of what the spec computes: defaults filled in, schema_version left out."""
        content = {
            "features": [
                [f.name, f.op, f.source, f.window, *f.params, *OPS[f.op].code_digest]
                for f in self.features
            ],
            "convention": self.convention,
            "emit_from_index": self.emit_from_index,
            "pad_value": self.pad_value,
            "dtype": self.dtype,
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def lookbacks(self) -> tuple[int, ...]:
        """Per feature, the first row of a series with a value."""
        return tuple(
            OPS[feature.op].lookback(self.convention, feature.window or 1, feature.params)
            + self.begin(feature)
            for feature in self.features
        )

    @cached_property
    def first_valid(self) -> int:
        """The first row of a series at which every feature has a value."""
        return max(*self.lookbacks, self.emit_from_index)

    def begin(self, feature: Feature) -> int:
        """First row of the feature's source: no return exists at row 0 in "talib"."""
        return int(feature.columns == ("logret",) and self.convention == "talib")


def load_spec(spec: str | os.PathLike[str] | Mapping[str, Any] | FeatureSpec) -> FeatureSpec:
    """Return a validated spec from a .json, .yaml or .yml path, a mapping or a FeatureSpec.

    Raises
    ------
    SpecError : a file that cannot be read, or an entry that is not allowed; the message names it.
    ImportError : a YAML path without pyyaml.
    """
    if isinstance(spec, FeatureSpec):
        return spec
    if isinstance(spec, (str, os.PathLike)):
        path = Path(spec)
        try:
            return _from_mapping(_read(path))
        except (SpecError, DocumentError) as error:
            raise SpecError(f"{path}: {error}") from error
    return _from_mapping(spec)


def _read(path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix not in (".json", ".yaml", ".yml"):
        raise SpecError(f"the suffix is {suffix!r}; allowed: .json, .yaml, .yml")
    is_json = suffix == ".json"
    text = read_text(path, JSON_BYTES if is_json else YAML_BYTES)
    if is_json:
        return load_json(text)
    try:
        return load_yaml(text)
    except ImportError as error:
        raise ImportError(f"{path} needs pyyaml: pip install pyyaml, or write JSON") from error


def _check_keys(given: Mapping[str, Any], allowed: tuple[str, ...], what: str) -> None:
    for key in given:
        if key not in allowed:
            raise SpecError(f"unknown key {key!r}{what}; allowed: {_listed(allowed)}")


def _from_mapping(raw: Any) -> FeatureSpec:
    if not isinstance(raw, Mapping):
        raise SpecError(f"a spec must be a mapping, got {type(raw).__name__}")
    _check_keys(raw, _TOP_KEYS, "")
    if "schema_version" not in raw:
        raise SpecError(f"schema_version is missing; allowed: {_listed(_DEFAULT_CONVENTION)}")
    entries = raw.get("features")
    if not isinstance(entries, (list, tuple)):
        raise SpecError(f"features must be a list, got {type(entries).__name__}")
    alignment = raw.get("alignment_policy", {})
    if not isinstance(alignment, Mapping):
        raise SpecError(f"alignment_policy must be a mapping, got {type(alignment).__name__}")
    _check_keys(alignment, _ALIGNMENT_KEYS, " in alignment_policy")
    if raw.get("convention") == "":
        raise SpecError(f"convention is ''; allowed: {_listed(map(repr, CONVENTIONS))}")
    top = {key: raw[key] for key in ("schema_version", "convention", "dtype") if key in raw}
    features = tuple(_feature(i, entry) for i, entry in enumerate(entries))
    return FeatureSpec(features=features, **top, **alignment)


def _params_of(op: object) -> tuple[tuple[str, float], ...]:
    return OPS[op].params if isinstance(op, str) and op in OPS else ()


def _feature(index: int, entry: Any) -> Feature:
    name = entry.get("name") if isinstance(entry, Mapping) else None
    try:
        if not isinstance(entry, Mapping):
            raise SpecError(f"must be a mapping, got {entry!r}")
        op = entry.get("op")
        if isinstance(op, str) and op in OPS:
            _check_keys(entry, OPS[op].keys, f" for op {op}")
        if "window" in entry and entry["window"] is None:
            raise SpecError("window must be an integer, got None")
        return Feature(
            name=entry.get("name", ""),
            op=entry.get("op", ""),
            source=entry.get("source", "close"),
            window=entry.get("window"),
            params=tuple(entry.get(key, default) for key, default in _params_of(op)),
        )
    except SpecError as error:
        raise SpecError(f"features[{index}] ({name!r}): {error}") from error
