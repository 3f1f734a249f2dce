"""A study as an object: its trials, its best plans, its pictures, and what to do next."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedsearch.confirmation.confirm import prepare_confirmation
from schedsearch.confirmation.fresh_runs import FreshRuns
from schedsearch.errors import InputError, SchedSearchError
from schedsearch.explanation.explain import prepare_explanation, train_stages
from schedsearch.export import best_trial, complete_trial, simplest_to_config, trial_to_config
from schedsearch.files import write_document
from schedsearch.interactive.python_words import in_python, raises_in_python
from schedsearch.interactive.records import Result, TrialRecord
from schedsearch.interactive.training import refuse_live_task, train
from schedsearch.printable import printable
from schedsearch.report.confirmation import confirmation_lines
from schedsearch.report.dashboard_artifacts import refresh_dashboard
from schedsearch.report.evidence import evidence_lines, simplest_lines
from schedsearch.report.explanation import explanation_lines
from schedsearch.report.fresh_runs import draw_fresh_runs
from schedsearch.report.matplotlib_import import import_matplotlib
from schedsearch.report.notebook import show_figures
from schedsearch.report.progress import Progress
from schedsearch.report.status import Best, read_status
from schedsearch.report.status_text import summary_lines
from schedsearch.space import Space
from schedsearch.storage import StudyHandle
from schedsearch.storage.attributes import PLAN

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from schedsearch.report.pictures.curves import Curves

#: What `plot` draws beside trials; "" is the study.
_PICTURES = ("", "best", "confirmation", "explanation")


class StudyView:
    """A study; each attribute and method reads its present state from the database.

    Its text is what `schedsearch status` prints.
    """

    def __init__(self, study: StudyHandle) -> None:
        self._study = study

    def __repr__(self) -> str:
        return "\n".join(map(printable, summary_lines(read_status(self._study))))

    @property
    def name(self) -> str:
        """The study's name, for the commands."""
        return self._study.name

    @property
    def space(self) -> Space:
        """The space that is searched."""
        return self._study.space

    @property
    def best(self) -> Best | None:
        """The best plan, a schedule or a constant; None if no trial is complete."""
        return read_status(self._study).best

    @property
    def best_schedule(self) -> Best | None:
        """The best plan that is not constant; None if no such trial is complete."""
        return read_status(self._study).best_schedule

    @property
    def best_constant(self) -> Best | None:
        """The best constant plan; None if no such trial is complete."""
        return read_status(self._study).best_constant

    def trials(self) -> list[TrialRecord]:
        """Return all trials by number."""
        return [TrialRecord.of(trial, self.space) for trial in self._study.trials()]

    def frame(self) -> pandas.DataFrame:
        """Return all trials as a table of pandas, by number.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise InputError("frame() needs pandas: pip install pandas, or use trials()") from None
        rows = [record.to_row() for record in self.trials()]
        return pandas.DataFrame(rows, columns=list(TrialRecord.__annotations__)).set_index("number")

    @raises_in_python
    def curves(self, trial: int | None = None) -> Curves:
        """Return the curves of a trial by epoch: schedules, constants, metric and loss terms.

        Args:
            trial: its number; None: the trial that `export` writes.

        Raises:
            StudyError: there is no such trial, or it has not ended.
        """
        from schedsearch.report.pictures.curves import curves_of

        chosen = best_trial(self._study) if trial is None else self._study.trial(trial)
        return curves_of(self.space, chosen)

    @raises_in_python
    def plot(self, what: str | int = "") -> Figure:
        """Return a figure of matplotlib, which a notebook shows.

        Args:
            what: "" for the study, the number of a trial, "best", "confirmation" or "explanation".

        Raises:
            InputError: there is no such picture.
            StudyError: the study has nothing to draw yet.
        """
        if not (str(what).isdecimal() or what in _PICTURES):
            known = ", ".join(f'"{name}"' for name in _PICTURES)
            raise InputError(f"a study has no picture {what!r}: give a trial's number, or {known}")
        import_matplotlib()
        from schedsearch.report.drawings import draw_part

        show_figures()
        return draw_part(self._study, str(what))[0]

    @raises_in_python
    def confirm(self, *, top: int = 5, seeds: int = 20, workers: int = 0) -> Result:
        """Compare the best schedules and constants on fresh seeds, as `schedsearch confirm` does.

        Args:
            top: how many of the best schedules.
            seeds: fresh seeds for each plan.
            workers: how many processes train; 0: this one.

        Raises:
            InputError: with so few seeds no result can be significant.
            SchedSearchError: runs failed, or it was interrupted; the same call continues.
        """
        refuse_live_task(self.space.task, workers)
        with prepare_confirmation(self._study, top=top, seeds=seeds) as confirmation:
            _train_runs(confirmation, workers)
        result = confirmation.judge()
        refresh_dashboard(self._study, Progress("runs", in_python).say)
        lines = map(in_python, confirmation_lines(result))
        return Result({"study": self.name, **result}, tuple(lines))

    @raises_in_python
    def explain(
        self,
        *,
        trial: int | None = None,
        margin: float | None = None,
        seeds: int = 20,
        workers: int = 0,
    ) -> Result:
        """Compare a plan with variants of it on fresh seeds, as `schedsearch explain` does.

        Args:
            trial: its number; None: the winner of the confirmation, or the best schedule.
            margin: how much worse a simpler schedule may be; None: a quarter of the gain.
            seeds: fresh seeds for each variant.
            workers: how many processes train; 0: this one.

        Raises:
            InputError: with so few seeds no result can be significant.
            StudyError: the plan has no schedule to explain.
            SchedSearchError: runs failed, or it was interrupted; the same call continues.
        """
        refuse_live_task(self.space.task, workers)
        with prepare_explanation(
            self._study, seeds=seeds, trial=trial, margin=margin
        ) as explanation:
            last = train_stages(explanation, partial(_train_runs, workers=workers))
        result = last.judge()
        refresh_dashboard(self._study, Progress("runs", in_python).say)
        lines = map(in_python, explanation_lines(result))
        return Result({"study": self.name, **result}, tuple(lines))

    @raises_in_python
    def export(
        self, path: Path | str | None = None, *, trial: int | None = None, simplest: bool = False
    ) -> Space:
        """Return a plan as a config, as `schedsearch export` writes it, and print its evidence.

        Its `scheduler()` and `lr_scheduler(...)` give the schedules to a training loop.

        Args:
            path: a .toml, .yaml or .json file to write; None: none.
            trial: its number; None: the winner of the confirmation, or the best.
            simplest: the simplest plan that `explain` found to be not worse.

        Raises:
            StudyError: there is no such plan.
        """
        if simplest and trial is not None:
            raise InputError("simplest and trial both choose the plan: give only one")
        study = self._study
        if simplest:
            content = simplest_to_config(study)
            lines = simplest_lines(content["source"])
        else:
            chosen = best_trial(study) if trial is None else complete_trial(study, trial)
            content = trial_to_config(study, chosen)
            constant = self.space.is_constant_plan(chosen.user_attrs[PLAN])
            lines = evidence_lines(study, content["source"], constant, is_default=trial is None)
        if path is not None:
            write_document(Path(path), content)
        say = Progress("runs", in_python).say
        for line in lines:
            say(line)
        return Space.from_document(content, f"the config of {self.name}")


def _train_runs(fresh: FreshRuns, workers: int) -> None:
    """Train the runs that are missing."""
    if fresh.recorded() == len(fresh.runs):
        return
    with Progress("runs", in_python) as display:
        if fresh.without_test is not None:
            display.say(f"warning: {fresh.without_test}")
        redraw: Any = partial(draw_fresh_runs, display, fresh)
        with fresh.study.unless_deleted():
            if train(fresh.study, display, redraw, workers):
                raise SchedSearchError(
                    f"stopped with {fresh.recorded()} of {len(fresh.runs)} runs recorded: the same "
                    "call continues"
                )
