"""Many runs in one batched step.

`probe` looks at one step of a task; `program` makes of it stacked tensors (`state`, `data`) and the
functions on them (`step`, `optimizers`), traced and compiled by `graphs`; `engine` runs these, with
what `draws` gives each lane.
"""
