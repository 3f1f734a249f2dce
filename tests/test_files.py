"""TOML, YAML and JSON files hold the same data; other data is refused with a clear error."""

import json
import os
import stat
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedsearch.errors import InputError, SchedSearchError
from schedsearch.files import read_document, write_atomically, write_document

SUFFIXES = (".toml", ".yaml", ".yml", ".json")

texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029\ufeff")
)
scalars = st.one_of(
    texts,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def read(tmp_path, content, suffix):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_document(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=30)
@given(document=st.dictionaries(texts, values, max_size=4))
def test_a_written_document_reads_back_equal(tmp_path_factory, suffix, document):
    path = tmp_path_factory.getbasetemp() / f"round{suffix}"
    write_document(path, document)
    assert read_document(path) == document


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=60)
@given(content=st.binary() | st.text("{}[]:=&*<!-'\"\n 1.e#ab").map(str.encode))
def test_arbitrary_content_is_read_or_refused(tmp_path_factory, suffix, content):
    path = tmp_path_factory.getbasetemp() / f"fuzz{suffix}"
    path.write_bytes(content)
    with suppress(SchedSearchError):
        assert isinstance(read_document(path), dict)


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".toml", "a = nan", "a = nan: must be a finite number"),
        (".yaml", "a: [1, .inf]", "a.1 = inf: must be a finite number"),
        (".json", '{"a": -Infinity}', "a = -inf: must be a finite number"),
        (
            ".toml",
            "a = 2026-11-22",
            "a = '2026-11-22': must be text, a number, true or false, not a date",
        ),
        (".yaml", "a: {b: 2026-11-22}", "a.b = '2026-11-22': must be text, a number"),
        (".yaml", "a: !!binary aGk=", "not a bytes"),
        (".yaml", "a: !!python/object:os.system {}", "not valid YAML"),
        (".toml", f"a = 0x{'f' * 5000}", "a: must be a whole number of at most 64 bits"),
        (".json", f'{{"a": {2**63}}}', "a: must be a whole number of at most 64 bits"),
        (".json", f'{{"a": {"9" * 5000}}}', "not valid JSON"),
        (".yaml", "a: &x [1]\nb: *x", "aliases are not supported"),
        (".yaml", "a: &x [*x]", "aliases are not supported"),
        (".yaml", "a: 1\nb: 2\na: 3", "duplicate key `a`"),
        (".json", '{"b": {"a": 1, "a": 2}}', "duplicate key `a`"),
        (".yaml", "1: 2", "the file = '1': keys must be text (hint: put it in quotes)"),
        (".yaml", "[1]: 2", "not valid YAML"),
        (".yaml", "- 1", "must be a table of keys, not list"),
        (".json", "", "not valid JSON"),
        (".yaml", "", "must be a table of keys, not NoneType"),
        (".toml", b"a = '\xff'", "is not UTF-8 text"),
        (".toml", "a" + ".a" * 5000 + " = 1", "nested deeper than 50 tables"),
        (".json", '{"a":' * 5000 + "1" + "}" * 5000, "nested deeper than 50 tables"),
        (".yaml", "[" * 5000, "nested deeper than 50 tables"),
        (".ini", "a = 1", "the name must end in .toml, .yaml, .yml or .json"),
    ],
)
def test_invalid_content_is_refused_with_file_and_rule(tmp_path, suffix, content, message):
    with pytest.raises(InputError) as refused:
        read(tmp_path, content, suffix)
    assert message in str(refused.value)
    assert str(refused.value).startswith(f"{tmp_path}/file{suffix}: ")


def test_all_invalid_values_are_reported_at_once(tmp_path):
    with pytest.raises(InputError) as refused:
        read(tmp_path, "a: .nan\nb: 2026-11-22\nc: 1", ".yaml")
    assert len(str(refused.value).splitlines()) == 2


def test_an_alias_bomb_is_refused_before_it_expands(tmp_path):
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    with pytest.raises(InputError, match="aliases are not supported"):
        read(tmp_path, "\n".join(lines), ".yaml")


def test_equal_values_are_written_without_aliases(tmp_path):
    shared = [1.0, 2.0]
    write_document(tmp_path / "a.yaml", {"a": shared, "b": shared})
    assert read_document(tmp_path / "a.yaml") == {"a": shared, "b": shared}


def test_a_byte_order_mark_is_ignored(tmp_path):
    assert read(tmp_path, b"\xef\xbb\xbfa = 1", ".toml") == {"a": 1}


@pytest.mark.parametrize("name", ["missing.toml", "folder.toml", "file.json/inner.toml"])
def test_a_missing_file_or_a_folder_is_reported_as_missing(tmp_path, name):
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "file.json").write_text("{}")
    with pytest.raises(InputError, match="there is no such file"):
        read_document(tmp_path / name)


def test_a_failed_write_leaves_only_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_document(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_document(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be written: Is a directory"):
        write_atomically(tmp_path / "folder", b"")
    with pytest.raises(InputError, match="cannot be written: there is no folder"):
        write_atomically(tmp_path / "none" / "a", b"")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.json", "folder"]


def test_a_written_file_has_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
