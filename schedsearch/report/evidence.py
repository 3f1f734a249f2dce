"""What an exported plan is known to be worth, in lines for the user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from schedsearch.confirmation.stored_result import confirmation_result
from schedsearch.confirmation.verdicts import not_confirmed
from schedsearch.report.confirmation import weak_baseline_lines
from schedsearch.storage import StudyHandle


def simplest_lines(source: Mapping[str, Any]) -> Iterator[str]:
    """Yield how far a simpler plan is from the one that it replaces.

    Args:
        source: the table of that name in the config.
    """
    evidence = source["explanation"]
    yield (
        f"simpler than trial {evidence['trial']} and not worse by {evidence['margin']:.4g} or "
        f"more: difference {evidence['difference']:+.4g} in {evidence['metric']} over "
        f"{evidence['seeds']} fresh seeds"
    )


def evidence_lines(
    study: StudyHandle, source: Mapping[str, Any], constant: bool, *, is_default: bool
) -> Iterator[str]:
    """Yield the result of the confirmation; the value from the search alone is optimistic.

    Args:
        study: the study of the plan.
        source: the table of that name in the config.
        constant: whether the plan is constant.
        is_default: whether the plan is the one that `export` chooses by itself.
    """
    evidence = source.get("confirmation")
    if evidence is None:
        if constant:
            yield "a constant: no schedule was better" if is_default else "a constant"
        yield (
            "not confirmed: the value comes from the search; test it on fresh seeds with "
            f"`schedsearch confirm {study.name}`"
        )
        return
    result = (
        f"mean {evidence['metric']} {evidence['mean']:.4g} over {evidence['seeds']} fresh seeds"
    )
    if "verdict" not in evidence:
        yield f"a constant: {result}"
    elif source["confirmed"]:
        yield f"confirmed to be better than the constants: {result}"
        yield from weak_baseline_lines(confirmation_result(study) or {})
    else:
        yield f"not confirmed, {evidence['verdict']}: {result}"
    if is_default and not source["confirmed"]:
        yield (
            "no schedule was confirmed to be better than the constants: this trial has the best "
            "mean in the confirmation"
        )
    if is_default or source["confirmed"]:
        yield from _better_trials(study)


def _better_trials(study: StudyHandle) -> Iterator[str]:
    """Yield a warning if the study has a better trial that was not part of the confirmation."""
    best = [plan.number for kind in (False, True) for plan in study.ranked_plans(constant=kind)[:1]]
    result = confirmation_result(study)
    if result is not None and (since := not_confirmed(result, best)):
        yield (
            f"warning: trial {since[-1]} was not part of the confirmation: run "
            f"`schedsearch confirm {study.name}` again"
        )
