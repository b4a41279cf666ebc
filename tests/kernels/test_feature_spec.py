"""Specs: what they mean, what they refuse, what their hash depends on."""

from __future__ import annotations

import builtins
import json

import pytest

from tfa_kernels import Feature, FeatureSpec, SpecError, load_spec
from tfa_kernels.ops import SOURCES

RSI = {"name": "r", "op": "RSI", "source": "close", "window": 14}


def raw(*entries, **top):
    return {"schema_version": "1.0", "features": list(entries) or [RSI], **top}


def test_convention_follows_schema_version():
    assert load_spec(raw()).convention == "legacy"
    assert load_spec(raw(schema_version="2.0")).convention == "talib"
    assert load_spec(raw(convention="talib")).convention == "talib"
    assert load_spec(raw(schema_version="2.0", convention="legacy")).convention == "legacy"


def test_defaults():
    spec = load_spec(raw({"name": "a", "op": "EMA"}, {"name": "b", "op": "IDENT"}))
    assert spec.features == (Feature("a", "EMA", "close", 20), Feature("b", "IDENT"))
    assert (spec.emit_from_index, spec.pad_value, spec.names) == (0, 0.0, ("a", "b"))
    assert load_spec(spec) is spec


def test_composites_read_close():
    for source in SOURCES:
        columns = load_spec(raw({"name": "a", "op": "SMA", "source": source})).features[0].columns
        assert columns == (
            (source,) if source in ("open", "high", "low", "volume", "logret") else ("close",)
        )
        spread = load_spec(raw({"name": "a", "op": "SPREAD_BP", "source": source})).features[0]
        assert spread.columns == ("high", "low")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "x", "op": "WAT"}, "unknown op 'WAT'; available: IDENT"),
        ({"name": "x", "op": "RSI", "source": "vwap"}, "unknown source 'vwap'"),
        ({"name": "x", "op": "RSI", "period": 3}, "unknown key 'period' for op RSI"),
        ({"name": "x", "op": "IDENT", "window": 3}, "unknown key 'window' for op IDENT"),
        ({"name": "x", "op": "RSI", "window": 0}, "window is 0; allowed: 1"),
        ({"name": "x", "op": "RSI", "window": -4}, "window is -4"),
        ({"name": "x", "op": "RSI", "window": 2**40}, "window is"),
        ({"name": "x", "op": "RSI", "window": True}, "window must be an integer, got True"),
        ({"name": "x", "op": "RSI", "window": 14.0}, "window must be an integer, got 14.0"),
        ({"name": "x", "op": "RSI", "window": None}, "window must be an integer, got None"),
        ({"name": "x", "op": ["RSI"]}, "op and source must be strings"),
        ({"name": "x", "op": "IDENT", "source": "ts"}, "timestamp is not a feature"),
        ({"name": "timestamp", "op": "IDENT"}, "timestamp is not a feature"),
        ({"op": "IDENT"}, "name must be a non-empty string"),
        ({**RSI}, "already used by features.0."),
        ("rsi", "must be a mapping"),
    ],
)
def test_bad_entries_are_named(entry, message):
    name = entry.get("name") if isinstance(entry, dict) else None
    with pytest.raises(SpecError, match=message) as caught:
        load_spec(raw(RSI, entry))
    assert f"features[1] ({name!r})" in str(caught.value)


@pytest.mark.parametrize(
    ("top", "message"),
    [
        ({"schema_version": "3.0"}, "schema_version is '3.0'"),
        ({"schema_version": 1.0}, "quote it in YAML"),
        ({"schema_version": []}, "schema_version"),
        ({"convention": "ta"}, "convention is 'ta'"),
        ({"convention": ""}, "convention is ''"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
        ({"extra": 1}, "unknown key 'extra'"),
        ({"features": []}, "features is empty"),
        ({"features": {"a": 1}}, "features must be a list"),
        ({"alignment_policy": 3}, "alignment_policy must be a mapping"),
        ({"alignment_policy": {"emit": 3}}, "unknown key 'emit' in alignment_policy"),
        ({"alignment_policy": {"emit_from_index": -1}}, "emit_from_index is -1"),
        ({"alignment_policy": {"emit_from_index": 1.5}}, "emit_from_index must be an integer"),
        ({"alignment_policy": {"pad_value": "0"}}, "pad_value must be a number"),
        ({"alignment_policy": {"pad_value": 1e39}}, "pad_value is 1e[+]39"),
    ],
)
def test_bad_top_level(top, message):
    with pytest.raises(SpecError, match=message):
        load_spec(raw(**top))


def test_missing_schema_version():
    with pytest.raises(SpecError, match="schema_version is missing"):
        load_spec({"features": [RSI]})


def test_hash_is_of_the_meaning():
    base = load_spec(raw({"name": "a", "op": "EMA", "source": "close", "window": 20}))
    shuffled = {"op": "EMA", "window": 20, "name": "a", "source": "close"}
    same = [
        {"features": [shuffled], "schema_version": "1.0"},
        raw({"name": "a", "op": "EMA"}),
        raw({"name": "a", "op": "EMA"}, convention="legacy", dtype="float32"),
    ]
    assert {load_spec(s).hash for s in same} == {base.hash}
    assert len(base.hash) == 64 and int(base.hash, 16)
    others = [
        raw({"name": "b", "op": "EMA"}),
        raw({"name": "a", "op": "SMA"}),
        raw({"name": "a", "op": "EMA", "window": 21}),
        raw({"name": "a", "op": "EMA"}, convention="talib"),
        raw({"name": "a", "op": "EMA"}, alignment_policy={"emit_from_index": 1}),
        raw({"name": "a", "op": "EMA"}, alignment_policy={"pad_value": float("nan")}),
        raw({"name": "a", "op": "EMA"}, RSI),
    ]
    assert len({load_spec(s).hash for s in others} | {base.hash}) == len(others) + 1


def test_files(tmp_path):
    want = load_spec(raw())
    path = tmp_path / "s.json"
    path.write_text(json.dumps(raw()))
    assert load_spec(path) == load_spec(str(path)) == want
    yaml = pytest.importorskip("yaml")
    for suffix in (".yaml", ".yml"):
        path = tmp_path / f"s{suffix}"
        path.write_text(yaml.safe_dump(raw()))
        assert load_spec(path) == want


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.json", "{", "not valid JSON"),
        ("s.yaml", "a: [", "not valid YAML"),
        ("s.json", "[1]", "a spec must be a mapping, got list"),
        ("s.toml", "", "suffix is '.toml'"),
    ],
)
def test_bad_files(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SpecError, match=message) as caught:
        load_spec(path)
    assert str(path) in str(caught.value)


def test_yaml_without_pyyaml(tmp_path, monkeypatch):
    path = tmp_path / "s.yaml"
    path.write_text("a: 1")
    real = builtins.__import__

    def without_yaml(name, *args, **kwargs):
        if name == "yaml":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_yaml)
    with pytest.raises(ImportError, match="pip install pyyaml"):
        load_spec(path)


def test_a_spec_made_in_code_is_checked_too():
    assert FeatureSpec((Feature("a", "EMA"),)).convention == "talib"
    with pytest.raises(SpecError, match="already used"):
        FeatureSpec((Feature("a", "EMA"), Feature("a", "SMA")))
    with pytest.raises(SpecError, match="window"):
        Feature("a", "EMA", window=0)
