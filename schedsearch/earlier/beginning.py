"""Beginning from earlier studies: their best plans are tried first, and the forecast starts there.

A study records all that it takes of them, so its workers never read them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from schedsearch.earlier.source import Source, TakenPlan
from schedsearch.errors import InputError, StorageError
from schedsearch.plan import Plan
from schedsearch.printable import count_of
from schedsearch.space import Space
from schedsearch.storage import (
    EarlierStudy,
    StudyHandle,
    find_study,
    open_study,
    plan_key,
    write_earlier_studies,
)
from schedsearch.storage.attributes import PLAN, TAKEN_FROM, UNPRUNED
from schedsearch.storage.quiet import open_quietly

#: Schedules and constants that are tried first, at most; together at most a tenth of the trials,
#: but one of each.
_SCHEDULES, _CONSTANTS = 4, 2


@dataclass(frozen=True)
class Beginning:
    """What a study takes of earlier studies.

    Attributes:
        studies: what it records of them.
        plans: those to try first.
        left_out: why plans were left out, one reason for each.
    """

    studies: tuple[EarlierStudy, ...] = ()
    plans: tuple[TakenPlan, ...] = ()
    left_out: tuple[str, ...] = ()


def open_sources(
    url: str, study: str, names: Sequence[str], other_url: str | None = None
) -> list[StudyHandle]:
    """Open the earlier studies that a study has not recorded yet, so that they may be deleted.

    Args:
        url: of the database of the study, which need not exist.
        study: the name of the study, which need not exist.
        names: of the earlier studies.
        other_url: of their database; None: that of the study.

    Raises:
        InputError: the study is one of them.
        StudyError: one of them does not exist.
    """
    if study in names and other_url is None:
        raise InputError(f"study {study} cannot begin from itself: give it another name")
    recorded = _recorded_names(url, study)
    if not (missing := [name for name in names if name not in recorded]):
        return []
    database = open_quietly(url if other_url is None else other_url)
    return [open_study(database, name) for name in missing]


def _recorded_names(url: str, name: str) -> frozenset[str]:
    try:
        study = find_study(open_quietly(url), name)
    except StorageError:
        return frozenset()
    return frozenset() if study is None else frozenset(e.name for e in study.record.earlier)


def read_beginning(space: Space, studies: Sequence[StudyHandle]) -> Beginning:
    """Read what a study of a space takes of earlier studies; nothing is written.

    Args:
        space: of the new study.
        studies: the earlier ones, in any database.

    Raises:
        InputError: an earlier study shares no hyperparameter with the space.
        StudyError: it has no complete trial, or it follows another study.
    """
    if not studies:
        return Beginning()
    sources = [Source(study, space) for study in studies]
    for source in sources:
        source.check()
    schedules, constants = _counts(space)
    left_out: list[str] = []
    chosen = [
        *_first([source.take(left_out, schedules, constant=False) for source in sources])[
            :schedules
        ],
        *_first([source.take(left_out, constants, constant=True) for source in sources])[
            :constants
        ],
    ]
    return Beginning(tuple(s.record() for s in sources), tuple(chosen), tuple(left_out))


def begin_from(study: StudyHandle, beginning: Beginning, say: Callable[[str], None]) -> StudyHandle:
    """Queue the plans and record the earlier studies, unless an earlier call has done so.

    Returns:
        The study with its new record.
    """
    if not beginning.studies:
        return study
    with study.database.creation_lock():
        study = open_study(study.database, study.name)
        known = {earlier.name for earlier in study.record.earlier}
        new = [earlier for earlier in beginning.studies if earlier.name not in known]
        if not new:
            return study
        names = {earlier.name for earlier in new}
        tried = {plan_key(trial) for trial in study.trials()}
        templates = [_template(study.space, taken) for taken in beginning.plans]
        templates = [
            template
            for template in templates
            if template.user_attrs[TAKEN_FROM]["study"] in names and plan_key(template) not in tried
        ]
        if templates:
            study.queue.enqueue(templates)
        # Last: after an interruption the same command queues what is missing.
        write_earlier_studies(study.database, study.study_id, new)
    for line in _lines(study, beginning, new, len(templates)):
        say(line)
    return open_study(study.database, study.name)


def _lines(
    study: StudyHandle, beginning: Beginning, new: Sequence[EarlierStudy], queued: int
) -> Iterator[str]:
    names = ", ".join(earlier.name for earlier in new)
    known = sum(len(earlier.ranks) for earlier in new)
    whose = "its" if len(new) == 1 else "their"
    starts = f", and the forecast starts from {known} of {whose} results"
    is_forecast = study.space.search.sampler.name == "forecast"
    yield (
        f"study {study.name} begins from {names}: {queued} of {whose} plans are tried first"
        f"{starts if is_forecast else ''}"
    )
    clipped = Counter(name for taken in beginning.plans for name in taken.clipped)
    for name, count in clipped.items():
        bounds = study.space.document.hyperparameters[name].bounds
        assert bounds is not None
        low, high = bounds
        yield f"{count_of(count, 'plan')} of these: {name} is limited to [{low:g}, {high:g}]"
    for reason, count in Counter(beginning.left_out).items():
        yield f"{count_of(count, 'plan')} left out: {reason}"


def _template(space: Space, taken: TakenPlan) -> FrozenTrial:
    """Return a trial to queue; the constants are exempt from pruning, as those of the search."""
    fixed = FixedTrial(dict(taken.parameters))
    if taken.parameters:
        space.suggest_tables(fixed)
    attributes: dict[str, Any] = {
        PLAN: taken.plan.to_tables(),
        TAKEN_FROM: {"study": taken.study, "trial": taken.trial},
    }
    if taken.constant:
        attributes[UNPRUNED] = True
    return create_trial(
        state=TrialState.WAITING,
        params=fixed.params,
        distributions=fixed.distributions,
        user_attrs=attributes,
    )


def _counts(space: Space) -> tuple[int, int]:
    """Return how many schedules and how many constants are tried first."""
    trials = space.search.trials
    most = min(max(2, trials // 10), trials - 1)
    constants = min(_CONSTANTS if most >= 4 else 1, most)
    return min(_SCHEDULES, most - constants), constants


def _first(by_study: Sequence[Sequence[TakenPlan]]) -> list[TakenPlan]:
    """Return the first plan of each study, then the second ones, without equal plans."""
    found: dict[Plan, TakenPlan] = {}
    for plans in zip_longest(*by_study):
        for taken in plans:
            if taken is not None:
                found.setdefault(taken.plan, taken)
    return list(found.values())
