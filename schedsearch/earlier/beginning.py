"""Beginning from earlier studies: their best plans are tried first, and the forecast starts there.

A study records all that it takes of them, so its workers never read them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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
    is_same_database,
    open_study,
    plan_key,
    write_earlier_studies,
)
from schedsearch.storage.attributes import PLAN, TAKEN_FROM, UNPRUNED
from schedsearch.storage.quiet import open_quietly

#: Schedules and constants that are tried first, at most; together at most a tenth of the trials,
#: but one of each. They begin before any result can tell that an earlier study misleads, so they
#: are few: if their results are good, the forecast proposes more like them.
_SCHEDULES, _CONSTANTS = 2, 1


@dataclass(frozen=True)
class Beginning:
    """What a study takes of earlier studies.

    Attributes:
        studies: what it records of them.
        plans: those to try first.
        left_out: why plans were left out, one reason for each.
        recorded: the names of the earlier studies that are not read, since it has recorded them.
    """

    studies: tuple[EarlierStudy, ...] = ()
    plans: tuple[TakenPlan, ...] = ()
    left_out: tuple[str, ...] = ()
    recorded: tuple[str, ...] = ()

    def is_outdated(self, study: StudyHandle) -> bool:
        """Return whether the study was created again since, and lost what it had recorded."""
        return not {one.name for one in study.record.earlier}.issuperset(self.recorded)


def read_from(
    space: Space, url: str, earlier: Sequence[str | StudyHandle], other_url: str | None = None
) -> Beginning:
    """Read what a study takes of earlier studies, except those that it has recorded already.

    Args:
        space: of the study.
        url: of the database of the study, which need not exist.
        earlier: the earlier studies, by name, or opened from any database.
        other_url: of the database of those by name; None: that of the study.

    Raises:
        InputError: the study is one of them, or one shares no hyperparameter with the space.
        StudyError: one of them does not exist, has no complete trial, or follows another study.
    """
    for one in earlier:
        where = (other_url or url) if isinstance(one, str) else one.database.url
        if _name_of(one) == space.name and is_same_database(url, where):
            raise InputError(f"study {space.name} cannot begin from itself: give it another name")
    recorded = _recorded_names(url, space.name)
    missing = [one for one in earlier if _name_of(one) not in recorded]
    found = [
        open_study(open_quietly(other_url or url), one) if isinstance(one, str) else one
        for one in missing
    ]
    known = tuple(name for name in map(_name_of, earlier) if name in recorded)
    return replace(read_beginning(space, found), recorded=known)


def _name_of(study: str | StudyHandle) -> str:
    return study if isinstance(study, str) else study.name


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
        InputError: an earlier study shares no hyperparameter with the space, or this is a grid.
        StudyError: it has no complete trial, or it follows another study.
    """
    if not studies:
        return Beginning()
    if space.search.sampler.name == "grid":
        raise InputError(
            "the sampler `grid` tries every point of the space, and no earlier plan: use another "
            "sampler, or do not begin from earlier studies"
        )
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
    for name in beginning.recorded:
        say(_already_begun(study, name))
    if not beginning.studies:
        return study
    total = study.total()
    with study.database.creation_lock():
        study = open_study(study.database, study.name)
        known = {earlier.name for earlier in study.record.earlier}
        new = [earlier for earlier in beginning.studies if earlier.name not in known]
        names = {earlier.name for earlier in new}
        tried = {plan_key(trial) for trial in study.trials()}
        queued = [
            (taken, template)
            for taken in beginning.plans
            if taken.study in names
            and plan_key(template := _template(study.space, taken)) not in tried
        ]
        if queued:
            study.queue.enqueue([template for _, template in queued])
        # Last: after an interruption the same command queues what is missing.
        write_earlier_studies(study.database, study.study_id, new)
    for earlier in beginning.studies:
        if earlier not in new:
            say(_already_begun(study, earlier.name))
    if new:
        for line in _lines(study, beginning, new, [taken for taken, _ in queued]):
            say(line)
        if (raised := study.total()) > total:
            say(f"study {study.name} now has {raised} trials in all, {raised - total} more")
    return open_study(study.database, study.name)


def _already_begun(study: StudyHandle, name: str) -> str:
    return (
        f"study {study.name} has already begun from a study `{name}`: it keeps what it took then, "
        "and takes nothing more"
    )


def _lines(
    study: StudyHandle,
    beginning: Beginning,
    new: Sequence[EarlierStudy],
    queued: Sequence[TakenPlan],
) -> Iterator[str]:
    # scipy takes a while to load, and most commands do not need it.
    from schedsearch.forecast.prior import MIN_PLANS

    names = ", ".join(earlier.name for earlier in new)
    whose = "its" if len(new) == 1 else "their"
    line = f"study {study.name} begins from {names}: {len(queued)} of {whose} plans are tried first"
    if study.space.search.sampler.name == "forecast":
        counts = [len(earlier.ranks) for earlier in new]
        known = sum(count for count in counts if count >= MIN_PLANS)
        few = [earlier.name for earlier in new if len(earlier.ranks) < MIN_PLANS]
        yield f"{line}, and the forecast starts from {known} of {whose} results" if known else line
        for name in few:
            yield f"study {name} has fewer than {MIN_PLANS} results, too few for the forecast"
    else:
        yield line
    clipped = Counter(name for taken in queued for name in taken.clipped)
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
    constants = min(_CONSTANTS, most)
    return min(_SCHEDULES, most - constants), constants


def _first(by_study: Sequence[Sequence[TakenPlan]]) -> list[TakenPlan]:
    """Return the first plan of each study, then the second ones, without equal plans."""
    found: dict[Plan, TakenPlan] = {}
    for plans in zip_longest(*by_study):
        for taken in plans:
            if taken is not None:
                found.setdefault(taken.plan, taken)
    return list(found.values())
