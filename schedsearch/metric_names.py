"""The names of one metric on the validation split and on the test split."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PREFIXES = re.compile(r"(?:(?:val|valid|validation|eval|test)[_/])*(.+)", re.DOTALL)


def metric_on_test(metric: str) -> str:
    """Return the name of a metric on the test split.

    The prefixes val, valid, validation, eval and test, each with _ or /, name a split, not a
    metric: all names that differ only in these have one name on the test split.

    >>> [metric_on_test(name) for name in ("val_error", "eval/error", "test_error", "error")]
    ['test_error', 'test_error', 'test_error', 'test_error']
    >>> metric_on_test("value")
    'test_value'
    """
    found = _PREFIXES.fullmatch(metric)
    return f"test_{found[1] if found else metric}"


def missing_on_test(metric: str, tested: Iterable[str]) -> str | None:
    """Return why a metric is not compared on the test split; None if it is.

    Args:
        metric: of the objective.
        tested: the names of the metrics that a training measures on the test split.

    >>> print(missing_on_test("val_loss", ["test_accuracy"]))
    the training gives test_accuracy on the test split, but the objective is `val_loss`: plans are \
compared by validation; for a comparison on the test split, pass `loss` to run.test()
    >>> missing_on_test("val_loss", ["test_accuracy", "test_loss"])
    """
    names, wanted = list(tested), metric_on_test(metric)
    if wanted in names:
        return None
    given = ", ".join(names) or "no metric"
    return (
        f"the training gives {given} on the test split, but the objective is `{metric}`: plans are "
        "compared by validation; for a comparison on the test split, pass "
        f"`{wanted.removeprefix('test_')}` to run.test()"
    )
