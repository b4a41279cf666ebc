"""What a build writes of itself: its plan, a record a shard, and the index of the whole.

In the folder of a build lie the store's arrays and ::

    plan.json           what the features are built from, and the rows of each partition
    shards/000042.json  written after the rows of partition 42 have reached the disk
    index.json          plan and records together, written when the last record is there

A record is what says that rows are there; a build without all of them is never published.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tfa_kernels import Feature, FeatureSpec
from tfa_perf.data.store_files import sync
from tfa_perf.data.store_meta import DTYPES, NewerStoreError
from tfa_perf.universe.inputs import Fingerprint

__all__ = ["VERSION", "Index", "Plan", "Recipe", "Shard", "Slot", "read", "remove", "write"]

VERSION: Literal[1] = 1
Count = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, ser_json_inf_nan="constants"
    )


class Recipe(_Record):
    """What is computed of each file of bars."""

    spec: dict[str, Any]
    spec_hash: str
    convention: str
    names: tuple[str, ...]
    first_valid: Count
    horizon: Annotated[int, Field(ge=1)]
    min_volume: float | None
    min_move: float | None

    @staticmethod
    def of(
        spec: FeatureSpec, horizon: int, min_volume: float | None, min_move: float | None
    ) -> Recipe:
        return Recipe(
            spec=asdict(spec),
            spec_hash=spec.hash,
            convention=spec.convention,
            names=spec.names,
            first_valid=spec.first_valid,
            horizon=horizon,
            min_volume=min_volume,
            min_move=min_move,
        )

    def feature_spec(self) -> FeatureSpec:
        """Raises SpecError: an op that this process does not know."""
        features = (
            Feature(**{**entry, "params": tuple(entry["params"])})
            for entry in self.spec["features"]
        )
        return FeatureSpec(**{**self.spec, "features": tuple(features)})

    @property
    def same(self) -> tuple[Any, ...]:
        """Equal for recipes that give the same bits."""
        return self.spec_hash, self.names, self.horizon, self.min_volume, self.min_move


class Slot(_Record):
    """Where the rows of a file of bars go: ``rows`` from ``first`` on.

    ``rows`` is 0 for a file that could not be counted; ``symbol`` names its series where the file
    does not.
    """

    file: str
    bytes: Count
    mtime_ns: int
    symbol: str
    first: Count
    rows: Count

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self.bytes, self.mtime_ns)


class Plan(_Record):
    """What is to be built, and where each partition's rows go."""

    format: Literal["tfa-perf universe plan"] = "tfa-perf universe plan"
    version: Literal[1] = VERSION
    recipe: Recipe
    slots: tuple[Slot, ...]

    @property
    def rows(self) -> int:
        return sum(slot.rows for slot in self.slots)

    @property
    def layout(self) -> tuple[Any, ...]:
        """Equal for plans that put the same rows of the same features in the same places."""
        slots = tuple((slot.file, slot.symbol, slot.rows) for slot in self.slots)
        return self.recipe.same, slots


class Shard(_Record):
    """A partition whose rows are there.

    ``offsets`` are the boundaries of its ``symbols``, counted from its first row; ``crc32`` is of
    its rows in each array.
    """

    slot: Slot
    symbols: Annotated[tuple[str, ...], Field(min_length=1)]
    offsets: tuple[Count, ...]
    crc32: dict[str, Count]

    @model_validator(mode="after")
    def _consistent(self) -> Shard:
        offsets = self.offsets
        if len(offsets) != len(self.symbols) + 1 or any(a > b for a, b in pairwise(offsets)):
            raise ValueError("offsets: do not rise, or are not one more than the symbols")
        if (offsets[0], offsets[-1]) != (0, self.slot.rows):
            raise ValueError(f"offsets: do not go from 0 to {self.slot.rows} rows")
        if set(self.crc32) != set(DTYPES):
            raise ValueError(f"crc32: is not of {', '.join(DTYPES)}")
        return self


class Index(_Record):
    """A whole universe: the shards in the order of their rows."""

    format: Literal["tfa-perf universe"] = "tfa-perf universe"
    version: Literal[1] = VERSION
    recipe: Recipe
    shards: tuple[Shard, ...]


_AnyRecord = TypeVar("_AnyRecord", bound=_Record)


def read(file: Path, kind: type[_AnyRecord]) -> _AnyRecord | None:
    """The record in ``file``; None where there is none that can be used.

    Raises NewerStoreError where a later version wrote it.
    """
    try:
        return kind.model_validate_json(file.read_bytes())
    except OSError:
        return None
    except ValidationError as error:
        for each in error.errors():
            version = each["input"] if each["loc"] == ("version",) else None
            if isinstance(version, int) and version > VERSION:
                raise NewerStoreError(
                    f"{file}: 'version' is {version}, this program reads {VERSION}; upgrade "
                    "tfa-perf, or build in another folder"
                ) from None
        return None


def write(file: Path, record: _Record, *, durable: bool = True) -> None:
    """Write ``record`` whole or not at all; ``durable``, have it on the disk. Raises OSError."""
    draft = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    with draft.open("wb") as opened:
        opened.write(record.model_dump_json(indent=1).encode())
        if durable:
            opened.flush()
            os.fsync(opened.fileno())
    os.replace(draft, file)
    if durable:
        sync(file.parent)


def remove(file: Path) -> None:
    """Remove a record where there is one, and have that on the disk. Raises OSError."""
    if file.exists():
        file.unlink()
        sync(file.parent)
