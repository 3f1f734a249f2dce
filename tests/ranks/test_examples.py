"""The examples of several processes: a loop, Lightning's strategy ddp and the Trainer."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from schedsearch.preparation import prepare_space
from schedsearch.schedules import CURRENT_VERSION
from schedsearch.space import Space
from schedsearch.storage.attributes import is_superseded
from tests.ranks.studies import create, ended, reports, start, study_in, torchrun
from tests.searches import ROOT

pytestmark = [
    pytest.mark.long,
    # Lightning uses a torch class that torch will rename.
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*:FutureWarning"),
]
EXAMPLES = ROOT / "examples"


def space_of(example: str, points: int) -> dict[str, Any]:
    """Return the space of an example with a grid of points, all of which one step trains.

    Nearly all of them have learning rates with which a trial is pruned after its first epoch.
    """
    content = tomllib.loads((EXAMPLES / f"distributed{example}.toml").read_text())
    assert content["task"] == f"examples.distributed{example}:train"
    content["task"] = f"tests.ranks.disturbed:train{example}"
    rates = [0.5, 0.4, *(1e-3 * 0.98**n for n in range(points - 2))]
    content["hyperparameters"]["lr"] = {
        "default": 0.3,
        "families": {
            "constant": {"value": 0.3},
            "linear": {"initial": {"levels": rates}, "final": 1e-3},
        },
    }
    pruner = {"name": "asha", "min_epochs": 1, "reduction_factor": 4, "audit": 0.0}
    search = {"trials": 1000, "sampler": {"name": "grid"}, "pruner": pruner}
    arguments = {"batch_size": 500}
    # A document without a version has the rules of stored studies, a file has the newest.
    content |= {"schedule_version": CURRENT_VERSION, "arguments": arguments}
    return content | {"name": "small", "horizon": 5, "search": search}


@pytest.mark.parametrize("example", ["", "_lightning", "_trainer"])
def test_an_example_trains_a_hundred_pruned_trials_with_the_numbers_of_disturbed_ones(
    tmp_path: Path, example: str
) -> None:
    prepare_space(Space.load(EXAMPLES / f"distributed{example}.toml"))
    whole = tmp_path / "whole"
    err = ended(start(whole, space_of(example, 124)))
    assert "warning" not in err
    study = study_in(whole)
    counts = study.queue.counts()
    assert counts.pruned >= 100
    assert (counts.failed, counts.finished, len(study.rows())) == (0, 125, 125)

    folder = tmp_path / "disturbed"
    space = space_of(example, 3)
    create(folder, space)
    for file in ("interrupt 1 0", "kill 2 1", "kill 3 0"):
        (folder / file).touch()
    ended(torchrun(folder), 1)
    ended(torchrun(folder, "--max-restarts", "2"))
    assert not list(folder.glob("kill *")) + list(folder.glob("interrupt *"))
    disturbed = study_in(folder)
    counts = disturbed.queue.counts()
    rows = [row for row in disturbed.rows() if not is_superseded(row)]
    assert (counts.failed, counts.finished, len(rows)) == (0, 4, 4)
    [last] = (t for t in disturbed.complete_trials() if t.user_attrs.get("baseline"))
    assert last.user_attrs["trained"] == 2, "epochs 4 and 5, from the checkpoint of epoch 3"
    for plan, found in reports(disturbed).items():
        same = reports(study)[plan]
        epochs = found.keys() & same.keys()  # the pruner compares other trials in each study
        assert epochs
        assert [found[epoch] for epoch in epochs] == [same[epoch] for epoch in epochs]
