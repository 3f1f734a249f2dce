"""Text of strangers, such as names in a database, escaped for the terminal.

A terminal obeys control characters: they move the cursor, change the title, or hide a line.
Characters that change the direction of text make a name look like another one.
"""

from __future__ import annotations

import re
import shlex

#: A fast check first: almost all text is plain ASCII.
_NOT_ASCII = re.compile(r"[^\x20-\x7e]")
_LAYOUT = frozenset("\n\t")


def printable(text: str) -> str:
    r"""Return a text with all characters escaped that are not printable; line breaks stay.

    >>> print(printable("red: \x1b[31m, reversed: \u202e"))
    red: \u001b[31m, reversed: \u202e
    """
    return _NOT_ASCII.sub(lambda found: _escape(found[0], _LAYOUT), text)


def printable_line(text: str) -> str:
    r"""Return a text in one line, with all characters escaped that are not printable.

    >>> print(printable_line("small\nerror: the disk failed"))
    small\u000aerror: the disk failed
    """
    return _NOT_ASCII.sub(lambda found: _escape(found[0]), text)


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1.

    >>> count_of(1, "trial"), count_of(2, "trial")
    ('1 trial', '2 trials')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def describe_stop(epochs: int | None) -> str:
    """Return a remark about a trial that stopped before the horizon; no text for another one.

    >>> describe_stop(5), describe_stop(None)
    (', stopped after 5 epochs', '')
    """
    return "" if epochs is None else f", stopped after {count_of(epochs, 'epoch')}"


def shell_argument(name: str) -> str:
    r"""Return a name as an argument of a command in bash or zsh, for a hint.

    >>> print(shell_argument("-x"), shell_argument("a b"), shell_argument("red\x1b[31m"))
    -- -x 'a b' $'red\u001b[31m'
    """
    if name.isprintable():
        word = shlex.quote(name)
    else:
        escaped = name.replace("\\", r"\\").replace("'", r"\'")
        word = f"$'{printable_line(escaped)}'"
    return f"-- {word}" if name.startswith("-") else word


def _escape(character: str, kept: frozenset[str] = frozenset()) -> str:
    if character.isprintable() or character in kept:
        return character
    code = ord(character)
    # As in TOML and JSON, so that an exported config on the terminal is still valid.
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
