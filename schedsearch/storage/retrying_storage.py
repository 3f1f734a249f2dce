"""A storage that retries the calls of another one while its database is unavailable."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from schedsearch.storage.forwarding_storage import ForwardingStorage
from schedsearch.storage.retrier import Retrier

_Result = TypeVar("_Result")


class RetryingStorage(ForwardingStorage):
    """Forwards every call, and retries it after a transient error.

    Args:
        target: the storage that answers the calls; it must not retry them itself.
        retrier: retries the calls.
    """

    def __init__(self, target: BaseStorage, retrier: Retrier) -> None:
        super().__init__(target)
        self._retrier = retrier

    def _call(self, method: Callable[..., _Result], *arguments: Any) -> _Result:
        return self._retrier.retry(lambda: method(*arguments))

    def _call_once(
        self,
        method: Callable[..., _Result],
        *arguments: Any,
        find_effect: Callable[[], _Result | None],
    ) -> _Result:
        """Retry a call that is not idempotent.

        `find_effect` returns the result of an earlier attempt that was committed although its
        answer was lost, or None if there is none.
        """
        attempts = itertools.count()

        def call() -> _Result:
            if next(attempts) and (found := find_effect()) is not None:
                return found
            return method(*arguments)

        return self._retrier.retry(call)

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        def find_created() -> int | None:
            studies = self._target.get_all_studies()
            return next((s._study_id for s in studies if s.study_name == study_name), None)

        create = self._target.create_new_study
        return self._call_once(create, directions, study_name, find_effect=find_created)

    def delete_study(self, study_id: int) -> None:
        def delete() -> bool:
            self._target.delete_study(study_id)
            return True

        def find_deleted() -> bool | None:
            studies = self._target.get_all_studies()
            return None if any(study._study_id == study_id for study in studies) else True

        self._call_once(delete, find_effect=find_deleted)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        def find_created() -> int | None:
            trials = self._target.get_all_trials(study_id, deepcopy=False)
            same = (t._trial_id for t in reversed(trials) if _is_made_from(t, template_trial))
            return next(same, None)

        create = self._target.create_new_trial
        return self._call_once(create, study_id, template_trial, find_effect=find_created)


def _is_made_from(trial: FrozenTrial, template: FrozenTrial | None) -> bool:
    """Return whether a trial equals its template; without a template, trials look the same."""
    return template is not None and all(
        getattr(trial, field) == getattr(template, field)
        for field in ("state", "params", "user_attrs", "system_attrs", "intermediate_values")
    )
