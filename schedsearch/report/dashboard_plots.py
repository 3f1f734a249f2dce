"""The plots that the dashboard keeps with a study: small, since each poll reads them whole."""

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

#: Of a search that improves more often, the last improvements.
_STEPS = 60


@dataclass(frozen=True)
class Graph:
    """A plot as Plotly's own JSON, which the browser draws: Plotly itself is not needed here."""

    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]

    def to_json(self) -> str:
        """Return what Plotly's own figures do."""
        return json.dumps({"data": self.data, "layout": self.layout})


def study_plots(space: Space, trials: Sequence[FrozenTrial]) -> dict[str, Graph]:
    """Return the plots of a study by the name that each is kept under; none of an empty one."""
    ends = optimization_history(space, trials)
    if all(end.value is None for end in ends):
        return {}
    return {"best-so-far": _best_so_far(space, ends), "families": _families(space, trials)}


def _best_so_far(space: Space, ends: Sequence[FinishedTrial]) -> Graph:
    metric = space.objective.metric
    data = []
    for name, chosen, dash in (
        ("best so far", ends, "solid"),
        ("best constant so far", [end for end in ends if end.constant], "dash"),
    ):
        best = improvements(chosen, space.objective)[-_STEPS:]
        steps = [(end.ended, end.value) for end in best]
        if best:
            steps.append((ends[-1].ended, best[-1].value))
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
