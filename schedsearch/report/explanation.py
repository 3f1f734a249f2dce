"""The result of an explanation in sentences, for the terminal and for the dashboard's note."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from schedsearch.explanation.judging import BETTER, NOT_WORSE, SHARE_OF_GAIN, WORSE
from schedsearch.report.differences import describe_difference, levels_sentence, sign_sentence
from schedsearch.report.text import describe_families

_QUESTIONS = {
    "gain": "does the plan gain anything over the best constants?",
    "carries": "which schedule carries the gain?",
    "follows": "does it have to follow the training?",
    "simpler": "would a simpler schedule do?",
}


def explanation_lines(result: Mapping[str, Any]) -> list[str]:
    """Return the questions, and a sentence with difference and interval for each comparison."""
    lines = list(_heading(result))
    for question, title in _QUESTIONS.items():
        found = [c for c in result["comparisons"] if c["question"] == question]
        if not found and question != "follows":
            continue
        lines.append(title)
        if question == "simpler" and result["margin"] is not None:
            lines.append(f"  {_margin_sentence(result)}")
        lines.extend(f"  {line}" for c in found for line in (sentence(c, result), _numbers(c)))
        if not found:
            lines.append("  none of its schedules follows the training")
        if question == "simpler":
            lines.append(f"  {simplest_sentence(result)}")
    return lines


def explanation_line(result: Mapping[str, Any]) -> str:
    """Return the result of an explanation in one line: what matters, and the simplest plan."""
    carriers = [
        ", ".join(c["names"])
        for c in result["comparisons"]
        if c["change"] == "without" and c["verdict"] == WORSE
    ]
    followers = [
        ", ".join(c["names"])
        for c in result["comparisons"]
        if c["question"] == "follows" and c["verdict"] == WORSE
    ]
    parts = [
        f"the schedule of {' and of '.join(carriers)} matters"
        if carriers
        else "no schedule was seen to matter"
    ]
    if followers:
        parts.append(f"{' and '.join(followers)} has to follow the training")
    parts.append(simplest_sentence(result))
    return f"trial {result['trial']}: {'; '.join(parts)}"


def sentence(comparison: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Return what a comparison says, in one plain sentence.

    >>> path = {"change": "path", "names": ["lr"], "verdict": "worse", "difference": 0.01}
    >>> sentence(path, {})
    'lr: following the training gains 0.01, compared with its mean path'
    """
    names, size = ", ".join(comparison["names"]), f"{abs(comparison['difference']):.4g}"
    seen = {WORSE: f"{size} worse", BETTER: f"{size} better"}.get(comparison["verdict"])
    match comparison["change"]:
        case "constants":
            gain = {WORSE: f"the plan is {size} better than the best constants"}
            loss = {BETTER: f"the best constants are {size} better than the plan"}
            none = "no difference between the plan and the best constants was seen"
            return (gain | loss).get(comparison["verdict"], none)
        case "without":
            constants = _schedules(comparison)
            if seen is None:
                return f"{names}: no difference was seen with {constants} in its place"
            return f"{names}: with {constants} in its place the plan is {seen}"
        case "alone":
            if seen is None:
                return f"{names} alone: no difference to the whole plan was seen"
            return f"{names} alone, and constants for the others: {seen}"
        case "path":
            if comparison["verdict"] == WORSE:
                return f"{names}: following the training gains {size}, compared with its mean path"
            if comparison["verdict"] == BETTER:
                return f"{names}: its mean path is {size} better than following the training"
            return f"{names}: no gain was seen from following the training, against its mean path"
    return _simpler(comparison, result, names)


def _simpler(comparison: Mapping[str, Any], result: Mapping[str, Any], names: str) -> str:
    is_together = comparison["change"] == "together"
    what = _each_schedule(comparison) if is_together else f"{names}: {_schedules(comparison)}"
    if result["margin"] is None:
        return f"{what} is not judged, since the plan gains nothing over the best constants"
    if comparison["verdict"] == NOT_WORSE:
        return f"{what} is worse by less than the margin, if at all"
    sign = 1 if result["direction"] == "minimize" else -1
    if min(sign * end for end in comparison["interval"]) > result["margin"]:
        return f"{what} is worse by more than the margin"
    return f"{what} may be worse by the margin: these seeds do not rule it out"


def _margin_sentence(result: Mapping[str, Any]) -> str:
    """Return what the margin of a simpler schedule is, and where it comes from."""
    margin, gain = result["margin"], result["gain"]
    origin = "as given"
    if math.isclose(margin, SHARE_OF_GAIN * gain):
        origin = f"a quarter of the gain of {gain:.4g} over the best constants (none was given)"
    return (
        f"margin: {margin:.4g}, {origin}; a simpler schedule is not worse if it loses "
        "significantly less"
    )


def simplest_sentence(result: Mapping[str, Any]) -> str:
    """Return which simpler plan would do."""
    if result["margin"] is None:
        return "the plan gains nothing over the best constants, so take these (or give a margin)"
    if result["simplest"] is None:
        return f"no simpler plan was shown to be within the margin of {result['margin']:.4g}"
    chosen = result["comparisons"][result["simplest"]]
    return f"a simpler plan does: {_each_schedule(chosen)}"


def _numbers(comparison: Mapping[str, Any]) -> str:
    counts = {"diverged": comparison["diverged"], "stopped early": comparison["stopped"]}
    shown = "".join(f", {count} {word}" for word, count in counts.items() if count)
    return (
        f"  difference {describe_difference(comparison, comparison['level'])}, mean "
        f"{comparison['mean']:.4g}, p {comparison['p']:.2g}{shown}"
    )


def _heading(result: Mapping[str, Any]) -> Iterator[str]:
    first, stop = result["seeds"]
    split = "test split" if result["test"] else "validation split"
    yield (
        f"trial {result['trial']}: mean {result['metric']} {result['mean']:.4g} over "
        f"{stop - first} fresh seeds, on the {split}"
    )
    yield sign_sentence("variant", "plan", result)
    hypotheses = result.get("hypotheses", len(result["comparisons"]))
    yield levels_sentence(hypotheses, "comparisons")
    if len(looks := result.get("looks", [])) > 1:
        yield f"looked {len(looks)} times: each look adds to the risk of a chance result"


def _schedules(comparison: Mapping[str, Any]) -> str:
    found: Mapping[str, Any] = comparison["schedules"]
    if len(found) == 1:
        return describe_families(*found.values())
    return _each_schedule(comparison)


def _each_schedule(comparison: Mapping[str, Any]) -> str:
    items: Iterator[tuple[str, Any]] = iter(comparison["schedules"].items())
    return ", ".join(f"{name} = {describe_families(table)}" for name, table in items)
