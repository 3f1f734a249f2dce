"""The result of a confirmation, in sentences for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from schedsearch.confirm import winner
from schedsearch.paired import Verdict
from schedsearch.report.text import describe_plan


def confirmation_lines(result: Mapping[str, Any]) -> list[str]:
    """Return the constants, and one sentence for each schedule, best mean first."""
    lower = result["direction"] == "minimize"

    def order(entry: Mapping[str, Any]) -> float:
        return float(entry["mean"]) if lower else -float(entry["mean"])

    lines = [_heading(result)]
    for constant in sorted(result["constants"], key=order):
        lines.append(f"constant, {_name(constant)}: {constant['mean']:.4g}{_diverged(constant)}")
        lines.extend(f"  {line}" for line in describe_plan(constant["plan"]))
    for plan in sorted(result["plans"], key=order):
        lines.append(_sentence(plan, result))
        lines.extend(f"  {line}" for line in describe_plan(plan["plan"]))
    return lines


def verdict_line(result: Mapping[str, Any]) -> str:
    """Return what a confirmation found, in one line."""
    first, stop = result["seeds"]
    seeds, baseline = f"{stop - first} fresh seeds", result["baseline"]
    best = next((plan for plan in result["plans"] if plan["number"] == winner(result)), None)
    if best is None:
        return f"none of {len(result['plans'])} schedules is better than the constants, on {seeds}"
    return (
        f"{_name(best)}: mean {result['metric']} {best['mean']:.4g} against "
        f"{baseline['mean']:.4g} of the best constant, {_name(baseline)}, on {seeds}"
    )


def _heading(result: Mapping[str, Any]) -> str:
    first, stop = result["seeds"]
    what = "on the test split" if result["test"] else "by validation: the task measures no test"
    return (
        f"mean {result['metric']} over {stop - first} fresh seeds, {what}; an interval is wider "
        "the more schedules its own is held against (Holm)"
    )


def _sentence(plan: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Say what was found of one schedule.

    A 97.5 % interval is one that Holm's procedure holds against 0.025.
    """
    low, high = plan["interval"]
    first, stop = result["seeds"]
    baseline = result["baseline"]
    parts = [
        f"{_name(plan)}: {plan['mean']:.4g}{_diverged(plan)}, against {baseline['mean']:.4g} of "
        f"{_name(baseline)} {plan['difference']:+.4g} ({100 * (1 - plan['level']):.4g} % interval "
        f"{low:+.4g} to {high:+.4g}), better on {plan['wins']} of {stop - first} seeds: ",
        "".join(_verdict(plan, result)),
    ]
    return "".join(parts)


def _verdict(plan: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[str]:
    constants = len(result["constants"])
    yield plan["verdict"]
    if plan["verdict"] == Verdict.BETTER:
        yield f" than every one of {constants} constants" if constants > 1 else " than the constant"
    elif plan["verdict"] == Verdict.NO_DIFFERENCE and plan["seeds_to_show"] is not None:
        yield f"; about {plan['seeds_to_show']} seeds would show one of this size"
    yield f" (p {plan['p']:.2g})"


def _name(entry: Mapping[str, Any]) -> str:
    return "the default" if entry["number"] is None else f"trial {entry['number']}"


def _diverged(entry: Mapping[str, Any]) -> str:
    return f" ({entry['diverged']} diverged)" if entry["diverged"] else ""
