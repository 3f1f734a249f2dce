"""The options of the commands that start workers, `start` and `confirm`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schedsearch.errors import InputError

if TYPE_CHECKING:
    from schedsearch.launchers.base import Launcher


class Place(StrEnum):
    """Where workers run."""

    LOCAL = "local"
    RAY = "ray"


@dataclass(frozen=True)
class PlaceOptions:
    """Where the workers run, and for how long."""

    on: Annotated[
        Place, typer.Option(help="Where workers run: on this machine, or on a Ray cluster.")
    ] = Place.LOCAL
    address: Annotated[
        str | None,
        typer.Option(
            help="With --on ray: host:port of the cluster's head; default: RAY_ADDRESS, else the "
            "cluster of this machine, else a new one on this machine alone."
        ),
    ] = None
    cpus_per_worker: Annotated[
        float | None,
        typer.Option(help="With --on ray: CPUs of each worker; default: its threads.", min=0),
    ] = None
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(help="With --on ray: GPUs of each worker; a fraction shares one.", min=0),
    ] = None
    timeout: Annotated[
        float | None, typer.Option(help="Stop after so many seconds, at the epoch's end.", min=0)
    ] = None

    @contextmanager
    def launcher(self, storage: str, threads: int, workers: int | None = 0) -> Iterator[Launcher]:
        """Open the place until all its workers have ended, and prepare it if there are to be any.

        Raises:
            InputError: Ray is not available, or an option belongs to another place.
        """
        if self.on is Place.LOCAL:
            from schedsearch.launchers.fork_server import can_fork
            from schedsearch.launchers.local import LocalLauncher

            if given := [flag for flag, value in self._of_ray.items() if value is not None]:
                raise InputError(f"{given[0]} is for workers on Ray: add --on ray, or leave it out")
            with closing(LocalLauncher(forks=can_fork())) as launcher:
                if workers != 0:
                    launcher.prepare()
                yield launcher
            return
        from schedsearch.launchers.ray import ray_launcher

        cpus = self.cpus_per_worker
        with ray_launcher(
            storage,
            address=self.address,
            cpus=threads if cpus is None else cpus,
            gpus=self.gpus_per_worker or 0,
        ) as launcher:
            yield launcher

    @property
    def _of_ray(self) -> Mapping[str, Any]:
        return {
            "--address": self.address,
            "--cpus-per-worker": self.cpus_per_worker,
            "--gpus-per-worker": self.gpus_per_worker,
        }
