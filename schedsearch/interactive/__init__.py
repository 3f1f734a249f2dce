"""Searches from Python, for scripts and notebooks: what the commands do, as objects."""

import warnings

with warnings.catch_warnings():
    # In a notebook, the import of tqdm warns that its bars need widgets: they are not used here.
    warnings.filterwarnings("ignore", message="IProgress not found")
    import optuna as optuna
