"""A worker in this process: the engines that a study's numerics ask for, and the loop."""

from __future__ import annotations

from collections.abc import Callable

from schedsearch.engines import closest_numerics, make_engine
from schedsearch.engines.precision import start_torch_threads
from schedsearch.numerics import numerics_differences
from schedsearch.storage import StudyHandle
from schedsearch.study_task import load_study_task
from schedsearch.trajectories import open_store
from schedsearch.worker import BestTrialCallback, Reuse, Worker, end_process


def run_worker(
    study: StudyHandle,
    *,
    name: str,
    reuse: bool = True,
    should_stop: Callable[[], bool],
    say: Callable[[str], None],
    quiet: bool,
    restart_process: Callable[[], None] = end_process,
    best_trial_callback: BestTrialCallback | None = None,
) -> None:
    """Train trials of a study until none is left to begin, or until told to stop.

    Without `reuse` every epoch of every trial is trained, and nothing of it is kept. `begin_anew`
    ends the process when an epoch takes longer than the study allows; see Worker.

    Raises:
        StudyError: the task here is not the one that the study was created with.
        SchedSearchError: the user's code failed several times in a row.
    """
    space, numerics = study.space, study.record.numerics
    start_torch_threads(numerics["threads"])
    task = load_study_task(study)
    here = closest_numerics(numerics)
    if other := numerics_differences(numerics, here):
        say(f"warning: exact numbers will differ from the study's others: {'; '.join(other)}")
    # An engine of one lane trains one seed of a trial.
    number = 1 if here["engine"] == "lanes" else space.search.seeds
    engines = [make_engine(task, horizon=space.horizon, numerics=here) for _ in range(number)]
    Worker(
        study,
        engines,
        reuse=Reuse(study, open_store(study.database, say) if reuse else None, here),
        name=name,
        should_stop=should_stop,
        say=say,
        report=(lambda message: None) if quiet else say,
        restart_process=restart_process,
        best_trial_callback=best_trial_callback,
    ).run()
