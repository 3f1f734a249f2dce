"""Many runs in one batched step.

`probe` runs one step of a task. From it, `program` makes stacked tensors (`state`, `data`) and
functions on them (`step`, `optimizers`), which `graphs` traces and compiles. `engine` calls these
functions with the random numbers of each lane (`random_inputs`).
"""
