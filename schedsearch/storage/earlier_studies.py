"""What a study records of the earlier studies that it began from.

It is all that its workers need, so the earlier studies may be deleted, or lie in another database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schedsearch.storage.attributes import FROM_STUDY
from schedsearch.storage.database import Database
from schedsearch.storage.study_attributes import StudyAttributes, load_attributes

#: Numbers in the paths of one study: an attribute has at most 65,535 bytes on MySQL.
_MAX_NUMBERS = 3_000


@dataclass(frozen=True)
class EarlierStudy:
    """An earlier study: what it was, and how good its plans were among each other.

    Attributes:
        name: of the study.
        task: the reference of its task.
        metric: of its objective.
        horizon: in epochs.
        trials: the number of its complete trials.
        names: the hyperparameters that both studies search.
        ranks: of some of its plans, the share of the others that are better, in (0, 1).
        paths: their values over the run, by plan, time and name.
    """

    name: str
    task: str
    metric: str
    horizon: int
    trials: int
    names: tuple[str, ...]
    ranks: tuple[float, ...] = ()
    paths: tuple[tuple[tuple[float, ...], ...], ...] = ()

    @property
    def evidence(self) -> dict[str, Any]:
        """The study without its paths, for the [source] of a config."""
        return {
            "study": self.name,
            "task": self.task,
            "metric": self.metric,
            "horizon": self.horizon,
            "trials": self.trials,
            "hyperparameters": list(self.names),
        }


def most_plans(names: int, points: int) -> int:
    """Return of how many plans the paths may be recorded.

    Args:
        names: the number of hyperparameters.
        points: the number of points of a path.
    """
    return _MAX_NUMBERS // (names * points)


def read_earlier_studies(attributes: StudyAttributes) -> tuple[EarlierStudy, ...]:
    """Return the studies that a study began from, in the order in which they were given."""
    found: list[EarlierStudy] = []
    while (key := _key(len(found))) in attributes:
        found.append(_from_table(attributes[key]))
    return tuple(found)


def write_earlier_studies(
    database: Database, study_id: int, earlier: Sequence[EarlierStudy]
) -> None:
    """Add studies to those that a study began from."""
    before = database.read(lambda connection: load_attributes(connection, study_id))
    begin = len(read_earlier_studies(before))
    for number, study in enumerate(earlier, start=begin):
        table = {**study.evidence, "ranks": study.ranks, "paths": study.paths}
        database.optuna.set_study_user_attr(study_id, _key(number), table)


def _from_table(table: Mapping[str, Any]) -> EarlierStudy:
    return EarlierStudy(
        table["study"],
        table["task"],
        table["metric"],
        table["horizon"],
        table["trials"],
        tuple(table["hyperparameters"]),
        tuple(table["ranks"]),
        tuple(tuple(tuple(point) for point in path) for path in table["paths"]),
    )


def _key(number: int) -> str:
    return f"{FROM_STUDY}_{number}"
