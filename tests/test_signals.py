"""What a process makes of SIGINT and SIGTERM."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest

from schedsearch import signals
from schedsearch.signals import stop_signals


def test_signals_that_come_with_the_first_one_belong_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=5.0)
    monkeypatch.setattr(signals, "time", SimpleNamespace(monotonic=lambda: clock.now))
    with stop_signals(merge_seconds=1.0) as request:
        signal.raise_signal(signal.SIGTERM)
        clock.now = 5.9
        signal.raise_signal(signal.SIGTERM)
        assert request.signal_count == 1
        clock.now = 6.1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_a_second_signal_stops_at_once() -> None:
    with stop_signals() as request:
        signal.raise_signal(signal.SIGINT)
        assert request
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
