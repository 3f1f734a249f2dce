"""A storage that passes every call on to another one, and waits while its database is away."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Sequence
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from schedsearch.storage.retrier import Retrier

_Found = TypeVar("_Found")


class RetryingStorage(BaseStorage):
    """Passes every call on; a subclass answers some itself.

    Args:
        target: answers the rest.
        outages: of its database.
    """

    def __init__(self, target: BaseStorage, retrier: Retrier) -> None:
        self._target, self._retrier = target, retrier

    def _ask(self, call: Callable[..., _Found], *arguments: Any) -> _Found:
        return self._retrier.retry(lambda: call(*arguments))

    def _ask_once(
        self, call: Callable[..., _Found], *arguments: Any, done: Callable[[], _Found | None]
    ) -> _Found:
        """Make a call whose effect must not be had twice.

        `done` finds what an earlier try has left that was committed, though nobody could say so.
        """
        tries = itertools.count()

        def ask() -> _Found:
            if next(tries) and (found := done()) is not None:
                return found
            return call(*arguments)

        return self._retrier.retry(ask)

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        def made() -> int | None:
            studies = self._target.get_all_studies()
            return next((s._study_id for s in studies if s.study_name == study_name), None)

        return self._ask_once(self._target.create_new_study, directions, study_name, done=made)

    def delete_study(self, study_id: int) -> None:
        def delete() -> bool:
            self._target.delete_study(study_id)
            return True

        def deleted() -> bool | None:
            studies = self._target.get_all_studies()
            return None if any(study._study_id == study_id for study in studies) else True

        self._ask_once(delete, done=deleted)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._ask(self._target.set_study_user_attr, study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._ask(self._target.set_study_system_attr, study_id, key, value)

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._ask(self._target.get_study_id_from_name, study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._ask(self._target.get_study_name_from_id, study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._ask(self._target.get_study_directions, study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._ask(self._target.get_study_user_attrs, study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._ask(self._target.get_study_system_attrs, study_id)

    def get_all_studies(self) -> list[Any]:
        return self._ask(self._target.get_all_studies)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        def made() -> int | None:
            trials = self._target.get_all_trials(study_id, deepcopy=False)
            same = (t._trial_id for t in reversed(trials) if _is_made_from(t, template_trial))
            return next(same, None)

        create = self._target.create_new_trial
        return self._ask_once(create, study_id, template_trial, done=made)

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        self._ask(
            self._target.set_trial_param, trial_id, param_name, param_value_internal, distribution
        )

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        return self._ask(self._target.set_trial_state_values, trial_id, state, values)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        self._ask(self._target.set_trial_intermediate_value, trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._ask(self._target.set_trial_user_attr, trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._ask(self._target.set_trial_system_attr, trial_id, key, value)

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        return self._ask(
            self._target.get_trial_id_from_study_id_trial_number, study_id, trial_number
        )

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._ask(self._target.get_trial, trial_id)

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        return self._ask(self._target.get_all_trials, study_id, deepcopy, states)

    def remove_session(self) -> None:
        self._ask(self._target.remove_session)


def _is_made_from(trial: FrozenTrial, template: FrozenTrial | None) -> bool:
    """Tell whether a trial is as its template says; one without a template is like any other."""
    return template is not None and all(
        getattr(trial, what) == getattr(template, what)
        for what in ("state", "params", "user_attrs", "system_attrs", "intermediate_values")
    )
