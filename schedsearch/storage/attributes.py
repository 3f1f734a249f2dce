"""The attributes by which studies and trials say what they are to each other and to a pruner."""

#: Of a study that records a confirmation: the name of the study that is confirmed.
CONFIRMS = "confirms"
#: Of a trial that stands outside the competition: no pruner ends it, or counts it.
UNPRUNED = "unpruned"
#: Of a trial that is kept to the end whatever the pruner says of it, to see what it would miss.
AUDITED = "audited"
#: Of a trial whose plan is the user's own: the file that it comes from.
OWN = "own"
#: Of a study or a trial that goes on from another one: that one's name or number, and after which
#: epoch a trial parted from it.
PARENT = "parent"
FROM_EPOCH = "from_epoch"
#: Of an audited trial: the epoch after which the pruner would have ended it.
WOULD_PRUNE = "would_prune"
