"""The result of a confirmation in sentences, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from schedsearch.confirmation.paired import Verdict
from schedsearch.confirmation.verdicts import best_first, plan_label, winner
from schedsearch.report.differences import describe_difference, levels_sentence, sign_sentence
from schedsearch.report.text import describe_plan


def confirmation_lines(result: Mapping[str, Any]) -> list[str]:
    """Return the constants, and one sentence for each schedule, best mean first."""
    lines = list(_heading(result))
    for constant in best_first(result, "constants"):
        lines.append(f"constant, {plan_label(constant)}: {constant['mean']:.4g}{_counts(constant)}")
        lines.extend(f"  {line}" for line in describe_plan(constant["plan"]))
    for plan in best_first(result, "plans"):
        lines.append(_sentence(plan, result))
        lines.extend(f"  {line}" for line in describe_plan(plan["plan"]))
        lines.extend(f"  {line}" for line in _comparisons(plan, result))
    lines.extend(_other_order(result))
    lines.extend(weak_baseline_lines(result))
    return lines


def weak_baseline_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield why a schedule may be better than the constants only because these are few."""
    for warning in result.get("coarse", []):
        yield f"weak baseline: {warning}"


def verdict_line(result: Mapping[str, Any]) -> str:
    """Return the result of a confirmation in one line."""
    seeds, baseline = f"{_seeds(result)} fresh seeds", result["baseline"]
    best = next((plan for plan in result["plans"] if plan["number"] == winner(result)), None)
    if best is None:
        tried = result["plans"]
        none = f"none of {len(tried)} schedules was" if len(tried) > 1 else "the schedule was not"
        return f"{none} found better than the constants, on {seeds}"
    return (
        f"{plan_label(best)}: mean {result['metric']} {best['mean']:.4g} against "
        f"{baseline['mean']:.4g} of the best constant, {plan_label(baseline)}, on {seeds}"
        f"{' (a weak baseline: `confirm` says why)' if result.get('coarse') else ''}"
    )


def _heading(result: Mapping[str, Any]) -> Iterator[str]:
    what = (
        "on the test split"
        if result["test"]
        else "on the validation split: the runs have no such metric on the test split"
    )
    yield f"mean {result['metric']} over {_seeds(result)} fresh seeds, {what}"
    yield sign_sentence("schedule", "constant", result)
    better, worse = ("below", "above") if result["direction"] == "minimize" else ("above", "below")
    several = len(result["constants"]) > 1
    also = " (corrected for the number of constants too: Hochberg)" if several else ""
    yield (
        f"a schedule is better if all its intervals are {better} 0, and worse if one is {worse} 0"
        f"{also}"
    )
    yield levels_sentence(len(result["plans"]), "schedules")
    if len(looks := result.get("looks", [])) > 1:
        shown = ", ".join(map(str, looks[:-1])) + f" and {looks[-1]}"
        yield (
            f"looked {len(looks)} times, after {shown} seeds: each look adds to the risk of a "
            "chance result"
        )


def _sentence(plan: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Return the verdict on one schedule in words."""
    baseline, name = result["baseline"], f"{plan_label(plan)}{_counts(plan)}"
    means = (
        f"mean {result['metric']} {plan['mean']:.4g} against {baseline['mean']:.4g} of the best "
        f"constant, {plan_label(baseline)}"
    )
    match plan["verdict"]:
        case Verdict.BETTER:
            count = len(result["constants"])
            constants = f"each of {count} constants" if count > 1 else "the constant"
            size = f"{abs(plan['difference']):.4g} better than the best of them"
            return f"{name} is better than {constants}, {size}: {means}"
        case Verdict.WORSE:
            return f"{name} is worse: {means}"
    seeds = f"with {_seeds(result)} seeds"
    if (enough := plan["seeds_to_show"]) is not None:
        seeds += f"; a difference of this size needs about {enough}"
    if plan["diverged"] > min(constant["diverged"] for constant in result["constants"]):
        seeds += "; it diverged more often than a constant, so it is not called better"
    return f"{name}: no difference seen {seeds}: {means}"


def _comparisons(plan: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each constant that a schedule was compared with."""
    shown = [constant["number"] for constant in best_first(result, "constants")]
    places = {number: place for place, number in enumerate(shown)}
    for pair in sorted(plan["against"], key=lambda pair: places.get(pair["number"], len(places))):
        yield (
            f"against {plan_label(pair)} {describe_difference(pair, plan['level'])}, "
            f"better on {pair['wins']} of {_seeds(result)} seeds, worse on {pair['losses']}"
        )
    yield f"p {plan['p']:.2g}"


def _other_order(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line if another schedule was best in the search, whose order `plans` has."""
    of_search = result["plans"][0]["number"]
    on_seeds = winner(result)
    what = "the winner"
    if on_seeds is None:
        on_seeds, what = best_first(result, "plans")[0]["number"], "the one with the best mean"
    if on_seeds != of_search:
        yield (
            f"of these schedules, trial {of_search} was the best in the search; on the fresh "
            f"seeds, trial {on_seeds} is {what}"
        )


def _seeds(result: Mapping[str, Any]) -> int:
    first, stop = result["seeds"]
    return int(stop - first)


def _counts(entry: Mapping[str, Any]) -> str:
    """Return how many runs of a plan diverged, and how many stopped before the horizon."""
    # Results of earlier versions have no `stopped`.
    counts = {"diverged": entry["diverged"], "stopped early": entry.get("stopped", 0)}
    shown = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f" ({shown})" if shown else ""
