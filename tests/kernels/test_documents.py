"""JSON and YAML of others: plain values, or one line that says what is wrong."""

from __future__ import annotations

import pytest

from tfa_kernels import SpecError, load_spec
from tfa_kernels.documents import DocumentError, load_json, load_yaml, read_text

pytest.importorskip("yaml")

LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1},' * 9}]\n" for i in range(1, 30))
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{f'*a{i - 1},' * 9}]}}\n" for i in range(1, 30)
)


def test_plain_values():
    text = "{a: [1, 2.5, 'x', null, true], b: {c: 2024-01-02}}"
    assert str(load_yaml(text)["a"]) == "[1, 2.5, 'x', None, True]"
    assert load_json('{"a": [1, 2.5]}') == {"a": [1, 2.5]}
    assert load_yaml("") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, r"line 2: the alias \*a0; write the value itself"),
        (MERGES, r"line 2: the alias \*a0"),
        ("a: &a [*a]", r"line 1: the alias \*a"),
        ("[" * 5000, "not valid YAML: maximum recursion depth"),
        ("".join(" " * i + "a:\n" for i in range(900)), "not valid YAML: maximum recursion depth"),
        ("9" * 5000, "not valid YAML: Exceeds the limit"),
        ("2020-13-45", "not valid YAML: month must be"),
        ("a: \0", "not valid YAML: "),
        ("!!python/object/apply:os.abort []", "line 1: could not determine a constructor"),
    ],
)
def test_what_is_no_plain_document_is_told(tmp_path, text, message):
    with pytest.raises(DocumentError, match=message) as caught:
        load_yaml(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(SpecError, match=r"s\.yaml: not valid YAML"):
        load_spec(tmp_path / "s.yaml")


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "{", "nul", ""])
def test_json_that_is_none(text):
    with pytest.raises(DocumentError, match="not valid JSON: ") as caught:
        load_json(text)
    assert "\n" not in str(caught.value)


def test_no_more_is_read_than_is_allowed(tmp_path):
    file = tmp_path / "text"
    file.write_text("12345")
    assert read_text(file, 5) == "12345"
    for endless in (file, "/dev/zero"):
        with pytest.raises(DocumentError, match="has more than the 4 bytes that are allowed"):
            read_text(endless, 4)
    with pytest.raises(DocumentError, match=r"cannot be read .*; check the path"):
        read_text(tmp_path, 4)
