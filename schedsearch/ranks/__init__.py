"""Several processes that train one trial together, as ranks of torch.distributed.

Rank 0 is the worker: it alone talks to the database. Its engine passes each call on to the other
ranks, which make the same call, and collects their answers. So all ranks begin an epoch with the
same values, and leave the loop together, whatever ends the trial.
"""
