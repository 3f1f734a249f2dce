"""The options of `schedsearch start`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Place(StrEnum):
    """Where workers run."""

    LOCAL = "local"
    RAY = "ray"


Space = Annotated[
    Path,
    typer.Argument(help="A space file; with --horizon the name of a study.", show_default=False),
]
Trials = Annotated[int | None, typer.Option(help="The study's total, trial 0 included.", min=1)]
Epochs = Annotated[
    int | None, typer.Option(help="Epochs that the study's trials report in all, at most.", min=1)
]
Workers = Annotated[
    int, typer.Option(help="How many workers to run; 0 only creates the study.", min=0)
]
On = Annotated[Place, typer.Option(help="Where they run: on this machine, or on a Ray cluster.")]
Address = Annotated[
    str | None,
    typer.Option(
        help="With --on ray: host:port of the cluster's head; default: RAY_ADDRESS, else the "
        "cluster that this machine belongs to, else one of this machine alone."
    ),
]
CpusPerWorker = Annotated[
    float | None,
    typer.Option(help="With --on ray: what Ray counts; default: the threads.", min=0),
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(help="With --on ray: GPUs of each worker; a fraction shares one.", min=0),
]
StudyName = Annotated[str | None, typer.Option(help="The study's name.")]
Sampler = Annotated[str | None, typer.Option(help="tpe, random, grid, pbt, gp, cmaes or qmc.")]
Pruner = Annotated[str | None, typer.Option(help="asha, hyperband, median, patient or none.")]
Audit = Annotated[
    float | None,
    typer.Option(help="Share of schedules trained to the end to see what the pruner misses."),
]
Protected = Annotated[
    str | None, typer.Option(help="Opening without pruning: epochs, or a share such as 20%.")
]
Seed = Annotated[int | None, typer.Option(help="The first of the trainings' seeds.")]
Seeds = Annotated[int | None, typer.Option(help="Runs per trial, side by side.")]
Horizon = Annotated[
    int | None,
    typer.Option(help="Go on with a study's best plans for so many epochs, as STUDY@EPOCHS."),
]
Top = Annotated[int, typer.Option(help="With --horizon: how many plans.", min=1)]
Stretch = Annotated[
    bool, typer.Option("--stretch", help="With --horizon: durations stay shares of the horizon.")
]
Timeout = Annotated[
    float | None, typer.Option(help="Stop after so many seconds, at the epoch's end.", min=0)
]
EpochTimeout = Annotated[
    float | None, typer.Option(help="Seconds that an epoch may take before its trial fails.")
]
Threads = Annotated[
    int | None,
    typer.Option(help="Threads per worker; default: the machine's cores shared out.", min=1),
]
Lanes = Annotated[
    str, typer.Option(help="Runs in one batched step of a worker: a number, or auto.")
]
Device = Annotated[str, typer.Option(help="Where to train, as torch names it.")]
TF32 = Annotated[bool, typer.Option("--tf32", help="Let a GPU multiply matrices in TF32.")]
Autocast = Annotated[bool, typer.Option("--autocast", help="Let the models compute in bfloat16.")]
Also = Annotated[
    list[Path] | None,
    typer.Option(
        help="A config of your own, to race against the search; may be given again.",
        show_default=False,
    ),
]
