"""The keys of the attributes by which schedsearch marks studies and trials."""

#: Of a study that is a confirmation: the name of the confirmed study.
CONFIRMS = "confirms"
#: Of a confirmation: the settings that its runs depend on, beside their plans and seeds.
CONDITIONS = "conditions"
#: Of a confirmation: the prefix of the keys of the calls of `confirm` that are alive.
LIVE_CALL = "live_call_"
#: Of a trial of a confirmation: the number of the trial in the confirmed study that has its plan.
CONFIRMED_TRIAL = "trial"
#: Of a trial of a confirmation: whether its plan holds every searched hyperparameter constant.
CONSTANT = "constant"
#: Of a trial that trains one seed: that seed. Other trials train the study's seeds.
SEED = "seed"
#: Of a trial that is exempt from pruning: no pruner stops it.
UNPRUNED = "unpruned"
#: Of a trial that is trained in full although the pruner would stop it, to audit the pruner.
AUDITED = "audited"
#: Of an audited trial: the epoch after which the pruner would have stopped it.
WOULD_PRUNE = "would_prune"
#: Of a trial with a user plan: the file of the plan.
USER_PLAN = "own"
#: Of a study that extends another one: its name. Of a trial that continues another one: its number.
PARENT = "parent"
#: Of a trial with a parent: the last epoch that both have in common.
FROM_EPOCH = "from_epoch"
#: Of a sampled trial: its index among all trials that were sampled, which no retry changes.
SAMPLE_INDEX = "draw"
