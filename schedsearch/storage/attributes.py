"""The attributes by which studies and trials say what they are to each other and to a pruner."""

#: Of a study that records a confirmation: the name of the study that is confirmed.
CONFIRMS = "confirms"
#: Of a trial that trains one seed: that seed. Other trials train the study's seeds.
SEED = "seed"
#: Of a trial of a confirmation: the number of the trial in the confirmed study that has its plan,
#: and whether that plan holds every searched hyperparameter constant.
CONFIRMED_TRIAL = "trial"
CONSTANT = "constant"
#: Of a trial that is exempt from pruning: no pruner stops it or counts it.
UNPRUNED = "unpruned"
#: Of a trial that is trained in full although the pruner would stop it, to audit the pruner.
AUDITED = "audited"
#: Of a trial whose plan is the user's own: the file that it comes from.
OWN = "own"
#: Of a study or a trial that goes on from another one: that one's name or number, and after which
#: epoch a trial parted from it.
PARENT = "parent"
FROM_EPOCH = "from_epoch"
#: Of a sampled trial: its index among all trials that were sampled, which no retry changes.
SAMPLE_INDEX = "draw"
#: Of an audited trial: the epoch after which the pruner would have stopped it.
WOULD_PRUNE = "would_prune"
