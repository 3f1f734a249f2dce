"""How a study stands: its trials, its best schedule, and its best constant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState

from schedsearch.confirmation.record import kept
from schedsearch.confirmation.verdicts import not_judged
from schedsearch.pruners import Audit, summarize_audit
from schedsearch.report.confirmation import verdict_line
from schedsearch.storage import OWN, Counts, StudyHandle, ranked


@dataclass(frozen=True)
class Best:
    """The best of some complete trials, with the plan it carries as a config's tables.

    Attributes:
        among: how many trials it is the best of.
    """

    number: int
    value: float
    plan: dict[str, Any]
    among: int


@dataclass(frozen=True)
class Own:
    """A trial of a plan of the user's own, and the file that it comes from."""

    file: str
    number: int
    state: str
    #: None unless it is complete.
    value: float | None
    plan: dict[str, Any]


@dataclass(frozen=True)
class Status:
    """How a study stands at one moment."""

    study: str
    #: running: a trial is in training. done: every trial ended. stopped: neither.
    state: Literal["running", "done", "stopped"]
    metric: str
    direction: str
    total: int
    counts: Counts
    #: What every complete trial was trained for, and so the budget of those compared here.
    horizon: int
    best: Best | None
    best_schedule: Best | None
    best_constant: Best | None
    #: What `start --also` races, by number.
    own: tuple[Own, ...]
    #: Wall-clock seconds in which some trial was in training.
    seconds: float
    #: Trials that diverged, among those counted as pruned.
    diverged: int = 0
    #: Epochs, over all trials, in which bounds held a hyperparameter back.
    clamped: dict[str, int] = field(default_factory=dict)
    #: Epochs that the runs of all trials went through, and those of them that were trained: the
    #: others were known.
    epochs_asked: int = 0
    epochs_trained: int = 0
    #: What the last `confirm` found, in one line; None if there was none.
    confirmation: str | None = None
    #: What the trials that no pruner ends say of it; None if there are none.
    audit: Audit | None = None

    @property
    def epochs_per_second(self) -> float:
        """Trained epochs of all trials, per second of wall-clock time."""
        return self.counts.epochs / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the document that `status --json` prints."""
        counts = asdict(self.counts)
        epochs = counts.pop("epochs")
        return {
            "study": self.study,
            "state": self.state,
            "metric": self.metric,
            "direction": self.direction,
            "trials": {"total": self.total, **counts, "diverged": self.diverged},
            "horizon": self.horizon,
            "best": None if self.best is None else asdict(self.best),
            "best_schedule": None if self.best_schedule is None else asdict(self.best_schedule),
            "best_constant": None if self.best_constant is None else asdict(self.best_constant),
            "own": [asdict(own) for own in self.own],
            "audit": None if self.audit is None else self.audit.to_json(),
            "trial_epochs": epochs,
            "epochs_asked": self.epochs_asked,
            "epochs_trained": self.epochs_trained,
            "seconds": round(self.seconds, 3),
            "trial_epochs_per_second": round(self.epochs_per_second, 3),
            "clamped_epochs": self.clamped,
            "confirmation": self.confirmation,
        }


def read_status(study: StudyHandle) -> Status:
    """Read how a study stands."""
    # Read once: in mid-run, two reads would not agree.
    rows, total = study.rows(), study.total()
    trials = [row for row in rows if "superseded_by" not in row.user_attrs]
    counts = Counts.of(rows)
    asked = [len(row.intermediate_values) * study.space.search.seeds for row in rows]
    result = kept(study)
    objective = study.space.objective
    if counts.running:
        state: Literal["running", "done", "stopped"] = "running"
    else:
        state = "stopped" if counts.waiting or study.queue.room() else "done"
    schedule, constant = (
        _best(ranked(study.space, trials, constant=constant)) for constant in (False, True)
    )
    clamped: Counter[str] = Counter()
    for trial in trials:
        clamped.update(trial.user_attrs.get("clamped", {}))
    return Status(
        study=study.name,
        state=state,
        metric=objective.metric,
        direction=objective.direction,
        total=total,
        counts=counts,
        horizon=study.space.horizon,
        best=_best(ranked(study.space, trials)),
        best_schedule=schedule,
        best_constant=constant,
        own=tuple(_own(trial) for trial in trials if OWN in trial.user_attrs),
        seconds=_seconds(rows),
        diverged=sum("diverged" in trial.user_attrs for trial in trials),
        clamped=dict(clamped),
        epochs_asked=sum(asked),
        epochs_trained=sum(
            row.user_attrs.get("trained", epochs) for row, epochs in zip(rows, asked, strict=True)
        ),
        confirmation=None if result is None else _verdict(result, schedule, constant),
        audit=summarize_audit(trials, objective),
    )


def _best(ranked: list[FrozenTrial]) -> Best | None:
    if not ranked:
        return None
    trial = ranked[0]
    assert trial.value is not None
    return Best(trial.number, trial.value, trial.user_attrs["plan"], len(ranked))


def _verdict(result: Mapping[str, Any], *best: Best | None) -> str:
    """Return what a confirmation found, and whether the study has found better trials since."""
    since = not_judged(result, [trial.number for trial in best if trial is not None])
    more = f"; trial {since[-1]} took no part: `schedsearch confirm` again" if since else ""
    return verdict_line(result) + more


def _own(trial: FrozenTrial) -> Own:
    value = trial.value if trial.state is TrialState.COMPLETE else None
    attributes = trial.user_attrs
    return Own(attributes[OWN], trial.number, trial.state.name.lower(), value, attributes["plan"])


def _seconds(trials: Iterable[FrozenTrial]) -> float:
    """Return how long at least one trial was in training: the pauses of a search do not count."""
    now = datetime.now()
    spans = sorted(
        (trial.datetime_start, trial.datetime_complete or now)
        for trial in trials
        if trial.datetime_start is not None
    )
    seconds, until = 0.0, datetime.min
    for start, end in spans:
        seconds += max((end - max(start, until)).total_seconds(), 0.0)
        until = max(until, end)
    return seconds
