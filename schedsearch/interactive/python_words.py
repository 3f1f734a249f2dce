"""Messages that name options of the commands, in the words of a caller from Python."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from schedsearch.errors import SchedSearchError

_P = ParamSpec("_P")
_R = TypeVar("_R")

#: What stands for an option or a command, in this order. Commands that Python has no method for
#: stay: `schedsearch delete`.
_RULES = (
    (r"`schedsearch (confirm|explain) [^`]*`", r"`study.\1()`"),
    (r"`schedsearch start FILE --(study|trials) (\w+)`", r"`schedsearch.search(..., \1=\2)`"),
    (r"`schedsearch start`", r"`schedsearch.search`"),
    (r"--(lanes|threads) auto", r"\1=None"),
    (r"--pruner none", 'the pruner "none"'),
    (r"--from", "from_studies"),
    (r"--also", "`schedsearch start --also`"),
    (r"--(lanes|threads|trials|trial|study|seeds|top|margin) ([A-Z]+|\d+)", r"\1=\2"),
    (r"--(lanes|threads|trials|trial|study|seeds|top|margin|storage)", r"\1"),
)
_PATTERNS = tuple((re.compile(rf"(?<![\w-]){rule}(?![\w-])"), words) for rule, words in _RULES)


def in_python(message: str) -> str:
    """Return a message with arguments and methods in place of options and commands.

    >>> in_python("2 threads: a training loop is not measured; --threads N changes it")
    '2 threads: a training loop is not measured; threads=N changes it'
    >>> in_python("--seeds is 3, but must be at least 6: raise --seeds or lower --top")
    'seeds is 3, but must be at least 6: raise seeds or lower top'
    >>> in_python("--threads auto, and --from-storage URL")
    'threads=None, and --from-storage URL'
    """
    for pattern, words in _PATTERNS:
        message = pattern.sub(words, message)
    return message


def raises_in_python(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a function raise the errors of the package with `in_python` messages."""

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except SchedSearchError as error:
            first, *others = error.args or ("",)
            if isinstance(first, str):
                error.args = (in_python(first), *others)
            raise

    return call
