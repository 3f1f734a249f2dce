"""The plots of a study in the dashboard, kept small because every poll reads them in full."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from schedsearch.report.optimization_history import (
    FinishedTrial,
    by_family,
    improvements,
    optimization_history,
)
from schedsearch.space import Space

#: At most so many improvements are drawn, the latest ones.
_MAX_STEPS = 60


@dataclass(frozen=True)
class Graph:
    """A plot in Plotly's JSON format, which the browser draws; Plotly need not be installed."""

    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]

    def to_json(self) -> str:
        """Return the JSON text, as a Plotly figure does."""
        return json.dumps({"data": self.data, "layout": self.layout})


def study_plots(space: Space, trials: Sequence[FrozenTrial]) -> dict[str, Graph]:
    """Return the plots of a study by name; empty if no trial is complete."""
    history = optimization_history(space, trials)
    if all(trial.value is None for trial in history):
        return {}
    return {"best-so-far": _best_so_far(space, history), "families": _families(space, trials)}


def _best_so_far(space: Space, history: Sequence[FinishedTrial]) -> Graph:
    metric = space.objective.metric
    data = []
    for name, constants, dash in (
        ("best so far", False, "solid"),
        ("best constant so far", True, "dash"),
    ):
        best = improvements(history, constants=constants)[-_MAX_STEPS:]
        steps = [(trial.position, trial.value) for trial in best]
        if best:
            steps.append((history[-1].position, best[-1].value))
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "line": {"shape": "hv", "dash": dash},
                "x": [x for x, _ in steps],
                "y": [y for _, y in steps],
            }
        )
    return Graph(data, _layout("Best so far, against the best constant", "trials ended", metric))


def _families(space: Space, trials: Sequence[FrozenTrial]) -> Graph:
    lower = space.objective.to_minimize
    every = {
        f"{name}: {family} ({len(values)})": values
        for name, families in by_family(space, trials).items()
        for family, values in families.items()
        if values
    }
    found = dict(sorted(every.items(), key=lambda item: min(map(lower, item[1]))))
    columns = {
        "best": [min(values, key=lower) for values in found.values()],
        "median": [statistics.median(values) for values in found.values()],
    }
    marks = {"best": "diamond", "median": "line-ns-open"}
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "marker": {"symbol": marks[name], "size": 10},
            "x": values,
            "y": list(found),
        }
        for name, values in columns.items()
    ]
    layout = _layout("Families (how many complete trials)", space.objective.metric, "")
    layout["yaxis"] |= {"automargin": True, "autorange": "reversed"}
    return Graph(data, layout)


def _layout(title: str, across: str, up: str) -> dict[str, Any]:
    return {
        "title": {"text": title},
        "xaxis": {"title": {"text": across}},
        "yaxis": {"title": {"text": up}},
    }
