"""Variants of a plan: each differs from it in some schedules, and answers one question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from schedsearch.explanation.fits import simpler_fits
from schedsearch.explanation.paths import Path, interval_of_path, knots_of
from schedsearch.plan import Plan
from schedsearch.schedules import Constant, Schedule

#: The hyperparameters that one schedule sets.
Names = tuple[str, ...]


class Question(StrEnum):
    """What a variant tells of the plan."""

    GAIN = "gain"
    CARRIES = "carries"
    FOLLOWS = "follows"
    SIMPLER = "simpler"


@dataclass(frozen=True)
class Variant:
    """A variant of a plan.

    Attributes:
        question: that it answers.
        change: how it differs: `constants` is the best constant plan, `without` has constants in
            place of one schedule, `alone` in place of all others, `path` takes the mean path, a
            family is fitted to the mean path, and `together` has the simplest of each schedule.
        names: what the schedule sets that this is about.
        plan: the variant.
        schedules: what replaces the schedules of the plan, by their names.
    """

    question: Question
    change: str
    names: Names
    plan: Plan
    schedules: Mapping[Names, Mapping[str, Schedule]]


@dataclass(frozen=True)
class Explained:
    """A plan to explain.

    Attributes:
        plan: the plan.
        constants: the best constant plan.
        searched: the keys of the schedules that the search chose and that are not constant.
    """

    plan: Plan
    constants: Plan
    searched: tuple[Names, ...]

    @classmethod
    def of(cls, plan: Plan, constants: Plan, baseline: Plan) -> Explained:
        """Return a plan to explain; schedules that all plans of the space have stay as they are."""
        searched = tuple(
            names
            for names, schedule in plan.schedules.items()
            if not isinstance(schedule, Constant) and baseline.schedules.get(names) != schedule
        )
        return cls(plan, constants, searched)

    # --- which schedule carries the gain ---------------------------------------------------------

    def constant_variants(self) -> list[Variant]:
        """Return the best constants, and the variants with constants for some schedules.

        Of two schedules, one alone is the plan without the other.
        """
        variants = [Variant(Question.GAIN, "constants", (), self.constants, {})]
        variants += [self._without("without", names, [names]) for names in self.searched]
        if len(self.searched) > 2:
            for names in self.searched:
                others = [other for other in self.searched if other != names]
                variants.append(self._without("alone", names, others))
        return variants

    def _without(self, change: str, names: Names, replaced: Sequence[Names]) -> Variant:
        schedules = {key: self._constants_for(key) for key in replaced}
        return self._variant(Question.CARRIES, change, names, schedules)

    def _constants_for(self, names: Names) -> dict[str, Schedule]:
        found = {name: self.constants.schedules.get((name,)) for name in names}
        return {name: schedule for name, schedule in found.items() if schedule is not None}

    # --- does it have to follow the training, and would a simpler one do --------------------------

    @property
    def closed_loop(self) -> list[Names]:
        """The keys of the searched schedules that react to the results of epochs."""
        return [names for names in self.searched if not self.plan.schedules[names].is_open_loop]

    def path_variants(self, paths: Mapping[str, Path]) -> list[Variant]:
        """Return the variants that take the mean path, or the nearest of a simple family to it."""
        version = self.plan.version
        variants = [
            self._variant(
                Question.FOLLOWS,
                "path",
                names,
                {names: {name: knots_of(paths[name], version) for name in names}},
            )
            for names in self.closed_loop
        ]
        for names in self.searched:
            for family, schedules in self._fits(names, paths).items():
                replaced = {names: schedules}
                variants.append(self._variant(Question.SIMPLER, family, names, replaced))
        return variants

    def _fits(self, names: Names, paths: Mapping[str, Path]) -> dict[str, dict[str, Schedule]]:
        schedule = self.plan.schedules[names]
        fits: dict[str, dict[str, Schedule]] = {}
        for name in names:
            interval = self.plan.intervals.get(name, "epoch")
            simpler = simpler_fits(paths[name], schedule.family, self.plan.version, interval)
            for family, fit in simpler.items():
                fits.setdefault(family, {})[name] = fit
        # A member of a group that does not change has only the constant.
        for schedules in fits.values():
            for name in names:
                schedules.setdefault(name, fits["constant"][name])
        return fits

    def together(self, simplest: Mapping[Names, Variant]) -> Variant:
        """Return the variant with the simplest schedule for each key."""
        schedules = {names: variant.schedules[names] for names, variant in simplest.items()}
        names = tuple(name for key in simplest for name in key)
        return self._variant(Question.SIMPLER, "together", names, schedules)

    def _variant(
        self,
        question: Question,
        change: str,
        names: Names,
        schedules: Mapping[Names, Mapping[str, Schedule]],
    ) -> Variant:
        return Variant(question, change, names, self._replaced(schedules, change), schedules)

    def _replaced(self, schedules: Mapping[Names, Mapping[str, Schedule]], change: str) -> Plan:
        plan = self.plan
        kept = {key: schedule for key, schedule in plan.schedules.items() if key not in schedules}
        for of_names in schedules.values():
            kept |= {(name,): schedule for name, schedule in of_names.items()}
        intervals = dict(plan.intervals)
        if change == "path":
            for names in schedules:
                for name in names:
                    interval = intervals.get(name, "epoch")
                    intervals[name] = interval_of_path(plan.schedules[names], interval)
        return replace(plan, schedules=kept, intervals=intervals)


def most_comparisons(explained: Explained) -> int:
    """Return the largest number of different variants that an explanation can have."""
    count = len(explained.searched)
    carries = count if count < 3 else 2 * count
    together = 1 if count > 1 else 0
    return 1 + carries + len(explained.closed_loop) + 4 * count + together
