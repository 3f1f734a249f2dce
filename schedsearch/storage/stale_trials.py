"""Detecting trials without heartbeats, by the monotonic clock of this process alone."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable, Mapping


class StaleTrialDetector:
    """Finds trials whose heartbeat did not change for a grace period that this process observed.

    Call `update` only after this process wrote to the table of heartbeats. A heartbeat counts from
    the moment at which an update first saw it, so clocks of other machines do not matter. If there
    was no update for half of the grace period (because the database was unavailable or locked, or
    the process or the machine was suspended), other workers may not have been able to send
    heartbeats either: then all trials are observed from the start again.

    Args:
        clock: returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last_update = -math.inf
        self._first_seen: dict[tuple[int, Hashable], float] = {}

    def is_due(self, seconds: float) -> bool:
        """Return whether the last update was so many seconds ago, or there was none."""
        with self._lock:
            return self._clock() - self._last_update >= seconds

    def silent(self, heartbeats: Mapping[int, Hashable]) -> list[int]:
        """Return the ids of the trials whose heartbeat did not change since the last update."""
        with self._lock:
            return [i for i, heartbeat in heartbeats.items() if (i, heartbeat) in self._first_seen]

    def update(self, heartbeats: Mapping[int, Hashable], grace_period: float) -> frozenset[int]:
        """Return the ids of the stale trials.

        Args:
            heartbeats: the current last heartbeat of each running trial, by trial id.
            grace_period: the seconds without a new heartbeat after which a trial is stale.

        >>> seconds = iter([0, 50, 100, 150, 300])
        >>> detector = StaleTrialDetector(lambda: next(seconds))
        >>> [sorted(detector.update({7: beat, 8: "x"}, 120)) for beat in "abcde"]
        [[], [], [], [8], []]
        """
        with self._lock:
            now = self._clock()
            if now - self._last_update > grace_period / 2:
                self._first_seen.clear()
            self._last_update = now
            self._first_seen = {
                heartbeat: self._first_seen.get(heartbeat, now) for heartbeat in heartbeats.items()
            }
            return frozenset(
                trial_id
                for (trial_id, _), first_seen in self._first_seen.items()
                if now - first_seen >= grace_period
            )
