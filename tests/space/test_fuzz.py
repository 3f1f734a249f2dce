"""Untrusted files: any content is either read or refused with an InputError, and quickly."""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from schedsearch.errors import InputError, SchedSearchError
from schedsearch.files import read_document
from schedsearch.schedules import FAMILIES
from schedsearch.space import Space
from schedsearch.space.suggesters import RandomSuggester
from tests.searches import ROOT

SHIPPED = [*sorted((ROOT / "search_spaces").glob("*.toml")), *(ROOT / "examples").glob("*.toml")]
#: The shipped files, by suffix, as TOML, YAML and JSON.
TEXTS = {
    ".toml": [path.read_text() for path in SHIPPED],
    ".yaml": [yaml.safe_dump(read_document(path), sort_keys=False) for path in SHIPPED],
    ".json": [json.dumps(read_document(path), indent=1) for path in SHIPPED],
}
SUFFIXES = list(TEXTS)
#: The tokens of a file: quoted text, numbers and words, line ends, punctuation, spaces.
TOKEN = re.compile(r"\"[^\"\n]*\"|[\w.+%-]+|\n|[^\w\s]| +")
WORDS = sorted(set(TOKEN.findall("".join(text for texts in TEXTS.values() for text in texts))))
HOSTILE = [
    *("1e308", "-1e308", "1e-320", "1e999", "inf", "-inf", "nan", ".inf", ".NaN", "NaN", "-0.0"),
    *("0", "-1", "0.5", "1.5", "1000000", "9223372036854775807", "9223372036854775808"),
    *("9" * 400, "9" * 5000, "0x10", "0o17", "1_000", "1:30", "010", "+1", "--1"),
    *("1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "2001-12-14t21:59:43.10-05:00"),
    *("true", "false", "null", "~", "yes", "{}", "[]", "[[]]", '""', "''", '"""', "|", ">"),
    *('"20%"', '"0%"', '"1e300%"', '"1e-300%"', '"-5%"', '"٢٠%"', '"nan%"', '"100000000%"'),
    *("{ low = 1, high = 0 }", "{ low = 0, high = 1, log = true }", "{ levels = [1, 1.0] }"),
    *('{"low": 0, "high": 1e308}', "{low: 0, high: 1, step: 0}", '{ low = "1%", high = 3 }'),
    *("{ low = -1e308, high = 1e308 }", "{ low = 0, high = 9e307, step = 1e-300 }"),
    *("&a", "*a", "<<: *a", "&a [*a]", "!!python/object/apply:os.system ['true']", "!!binary x"),
    *("!!set {a}", "!!timestamp x", "? a", "- ", ": ", "---", "...", "%YAML 9.9", "#", "\t"),
    *("[" * 200, "{" * 200, '{"a":' * 200, "a." * 200, "- " * 200, "]" * 200, "a: " * 30),
    *("\x00", "\ufeff", "\u2028", "\x85", "\r", '"\\ud800"', '"\\u0000"', '"\\uD83D"', "𝔩𝔯", "é"),
    *('"' + "long " * 5000 + '"', "k" * 5000, "lr", '"weights.l2"', "weights.", '"../../x:y"'),
    *FAMILIES,
]

PIECES = [*HOSTILE, *WORDS]


def edited(tokens: list[str], edit: int, texts: list[str]) -> list[str]:
    """Return the tokens of a file with one change, encoded in a number."""
    edit, how = divmod(edit, 6)
    edit, at = divmod(edit, len(tokens))
    edit, other = divmod(edit, 2**12)
    word, there = PIECES[edit % len(PIECES)], other % len(tokens)
    before, here, after = tokens[:at], tokens[at : at + 1], tokens[at + 1 :]
    match how:
        case 0:
            found = [*before, word, *here, *after]
        case 1:
            found = [*before, word, *after]
        case 2:
            found = [*before, *after[other % 8 :]]
        case 3:
            found = [*tokens[: at + other % 40], *tokens[at:]]
        case 4:
            found = [*before, tokens[there], *after]
        case _:
            found = [*before, *TOKEN.findall(texts[other % len(texts)])[at : at + 30], *after]
    return found or [word]


@st.composite
def files(draw: st.DrawFn) -> list[tuple[str, bytes]]:
    """Generate a random file, or a shipped file after each of several changes."""
    # YAML takes ten times as long to parse.
    suffix = draw(st.sampled_from([".toml"] * 5 + [".json"] * 4 + [".yaml"]))
    if draw(st.integers(0, 9)) == 0:
        return [(suffix, draw(st.binary(max_size=200) | st.text(max_size=200).map(encoded)))]
    texts = TEXTS[suffix]
    tokens, found = TOKEN.findall(draw(st.sampled_from(texts))), []
    for edit in draw(st.lists(st.integers(0, 2**42), min_size=2, max_size=6)):
        tokens = edited(tokens, edit, texts)
        found.append((suffix, encoded("".join(tokens))))
    return found


def encoded(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def use(path: Path) -> None:
    """Read a file, and start a plan of it."""
    space = Space.load(path)
    assert Space.from_document(space.to_document(), "again") == space
    plan = space.suggest(RandomSuggester(0)).resolve(space.horizon, 0)
    assert plan.to_tables()
    if space.is_config:
        scheduler = space.scheduler()
        scheduler.step(0.5, terms={})
        assert scheduler.values


@pytest.fixture(scope="module")
def folder():
    with TemporaryDirectory() as folder:
        yield Path(folder)


def try_all(folder: Path, contents: list[tuple[str, bytes]]) -> int:
    for suffix, content in contents:
        path = folder / f"fuzzed{suffix}"
        path.write_bytes(content)
        began = time.process_time()
        with suppress(SchedSearchError):
            use(path)
        assert time.process_time() - began < 5.0
    return len(contents)


DETERMINED = settings(
    max_examples=500,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@settings(DETERMINED)
@given(contents=files())
def test_a_file_is_read_or_refused(folder, contents):
    try_all(folder, contents)


#: Content that would take minutes or all memory to parse.
OVERSIZED = {
    "dotted key": (".toml", "a." * 50_000 + "b = 1"),
    "dotted key in quotes": (".toml", '"=".' * 50_000 + "b = 1"),
    "lists in TOML": (".toml", "a = " + "[" * 100_000),
    "lists in JSON": (".json", "[" * 500_000),
    "tables in JSON": (".json", '{"a":' * 100_000),
    "lists in YAML": (".yaml", "[" * 5000),
    "keys in YAML": (".yaml", "? " * 5000),
    "aliases": (".yaml", "a: &a [x, x]\n" + "".join(f"b{i}: [*a, *a]\n" for i in range(99))),
    "decimal number": (".json", '{"horizon":' + "9" * 100_000 + "}"),
    "hexadecimal number": (".toml", "horizon = 0x" + "f" * 100_000),
    "number to the base of 60": (".yaml", "horizon: " + ":".join(["59"] * 5000)),
    "duration": (".toml", TEXTS[".toml"][0].replace('"', "'").replace("%", "e305%")),
    "file": (".json", " " * 2**24),
}


@pytest.mark.parametrize("name", OVERSIZED)
def test_oversized_content_is_refused_at_once(folder, name):
    suffix, content = OVERSIZED[name]
    path = folder / f"oversized{suffix}"
    path.write_text(content)
    began = time.process_time()
    with pytest.raises(InputError):
        Space.load(path)
    assert time.process_time() - began < 2.0


def test_a_named_pipe_is_no_file(folder):
    path = folder / "pipe.toml"
    os.mkfifo(path)
    with pytest.raises(InputError, match="there is no such file"):
        Space.load(path)


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
def test_a_hundred_thousand_files_are_read_or_refused(folder, part):
    tried = 0

    @seed(part)
    @settings(DETERMINED, max_examples=2800, derandomize=False)
    @given(contents=files())
    def each(contents):
        nonlocal tried
        tried += try_all(folder, contents)

    each()
    assert tried >= 10_000
