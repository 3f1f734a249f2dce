"""The keys of the attributes that schedsearch stores with studies and trials."""

from __future__ import annotations

from optuna.trial import FrozenTrial

# --- of a study ----------------------------------------------------------------------------------

#: The document of its space; written last when a study is created.
SPACE = "space"
#: The maximum number of its trials.
TRIALS = "trials"
#: The maximum number of epochs of all its trials together, and its horizon.
EPOCHS = "epochs"
#: The maximum seconds of an epoch.
EPOCH_TIMEOUT = "epoch_timeout"
#: The settings that change the exact numbers of its trials, but not their meaning. A trial has
#: those that differ from its study's.
NUMERICS = "numerics"
#: The hash of its task's fingerprint, which identifies its cached epochs.
FINGERPRINT = "fingerprint"
#: The parts of the last accepted version of its task; more are in task_parts_1, task_parts_2, ...
TASK_PARTS = "task_parts"
#: Later versions of its task that count as the same training, oldest first.
ACCEPTED_TASKS = "accepted_tasks"
#: The names of the metrics, as `test_NAME`, that its training loop measures on the test split.
TEST_METRICS = "test_metrics"
#: The result of its last confirmation.
CONFIRMATION_RESULT = "confirmation"
#: The result of its last explanation.
EXPLANATION_RESULT = "explanation"
#: Of a study that is a confirmation: the name of the confirmed study.
CONFIRMS = "confirms"
#: Of a study that is an explanation: the name of the study whose plan it explains.
EXPLAINS = "explains"
#: Of a study that follows another one: the settings that its runs depend on, beside their plans
#: and seeds.
CONDITIONS = "conditions"
#: Of a study that follows another one: the prefix of the keys of the calls that are alive.
LIVE_CALL = "live_call_"
#: The prefix of the keys of a study's system attributes that identify the processes of its workers,
#: by the name of the worker.
WORKER_PROCESS = "worker_"
#: Of a study that extends another one: its name. Of a trial that continues another one: its number.
PARENT = "parent"
#: Of a study that extends another one: whether durations stayed shares of the horizon.
STRETCHED = "stretched"
#: The prefix of the keys of the earlier studies that a study began from: from_study_0 and so on.
FROM_STUDY = "from_study"

# --- of a trial ----------------------------------------------------------------------------------

#: The tables of its plan.
PLAN = "plan"
#: Of trial 0, which has the default constants: true.
BASELINE = "baseline"
#: Of a sampled trial: its index among all trials that were sampled, which no retry changes.
SAMPLE_INDEX = "draw"
#: Of a trial with a user plan: the file of the plan.
USER_PLAN = "own"
#: Of a trial with a plan of an earlier study: the name of the study, and the number of its trial.
TAKEN_FROM = "taken_from"
#: Of a trial with a parent: the last epoch that both have in common.
FROM_EPOCH = "from_epoch"
#: Of a trial that is exempt from pruning: no pruner stops it.
UNPRUNED = "unpruned"
#: Of a trial that is trained in full although the pruner would stop it, to audit the pruner.
AUDITED = "audited"
#: Of an audited trial: the epoch after which the pruner would have stopped it.
WOULD_PRUNE = "would_prune"
#: Of an audited trial: an epoch, and the 5 %, 50 % and 95 % quantiles that were forecast then for
#: its final value.
FORECAST = "forecast"
#: The name of the worker that claimed it.
WORKER = "worker"
#: Of a row that retries a trial: the number of the row before it.
RETRY_OF = "retry_of"
#: Of a row that was queued again: the number of the row that retries it. Of a withdrawn row: null.
SUPERSEDED_BY = "superseded_by"
#: Of the first trial of those that were queued together: the name of this group.
BATCH = "batch"
#: Of a trial that failed: the traceback.
TRACEBACK = "traceback"
#: Why a trial failed that has no exception.
HANGING_EPOCH = "an epoch that took too long"
#: Of a trial whose parameters break a rule together: the rule.
REFUSED = "refused"
#: Of a trial that diverged: the epoch.
DIVERGED = "diverged"
#: Of a complete trial whose training loop ended before the horizon: its number of epochs.
STOPPED_AFTER = "stopped_after"
#: The number of epochs that were trained, if some were read from the cache.
EPOCHS_TRAINED = "trained"
#: The values of its hyperparameters and its loss terms with the first seed, by epoch.
VALUES = "values"
TERMS = "terms"
#: Of a long trial: only each so many-th epoch of these is stored.
EVERY = "every"
#: The seed and the value of each of its runs; of a run that stopped before the horizon also
#: `stopped_after`, its number of epochs.
RUNS = "runs"
#: In how many epochs bounds limited a hyperparameter, by name.
CLAMPED = "clamped"
#: Of a trial that trains one seed: that seed. Other trials train the study's seeds.
SEED = "seed"
#: Of a trial of a race, which trains a further seed of a plan: the number of the trial that has
#: the plan with the seeds of the study.
RACED_TRIAL = "raced"
#: Of a trial that follows another study: the number of the trial there that has its plan.
CONFIRMED_TRIAL = "trial"
#: Of a trial that follows another study: whether its plan holds every searched hyperparameter
#: constant.
CONSTANT = "constant"
#: Of a trial that follows another study: the objective's metric on the validation split and on
#: the test split.
VALIDATION = "validation"
TEST = "test"


def is_superseded(row: FrozenTrial) -> bool:
    """Return whether a row no longer stands for its trial: it was queued again, or withdrawn."""
    return SUPERSEDED_BY in row.user_attrs


def requested_epochs(row: FrozenTrial, seeds: int, epochs: int) -> int:
    """Return how many epochs all runs of a trial have, trained or cached.

    Args:
        row: of the trial.
        seeds: the number of its runs, unless it has its own seed.
        epochs: how many epochs it reported.
    """
    runs = row.user_attrs.get(RUNS, [{}] * (1 if SEED in row.user_attrs else seeds))
    return sum(run.get("stopped_after", epochs) for run in runs)


def failure_reason(trial: FrozenTrial) -> str:
    """Return why a trial failed: the first line of its exception, which follows the frames."""
    lines = trial.user_attrs.get(TRACEBACK, "").splitlines()
    frames = [i for i, line in enumerate(lines) if line.startswith("  File ")]
    after = lines[frames[-1] + 1 :] if frames else lines
    raised = (line for line in after if line.strip() and not line[0].isspace())
    return next(raised, HANGING_EPOCH)
