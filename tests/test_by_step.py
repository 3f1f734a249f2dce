"""A search at the interval "step", from the space file to the confirmed and trained config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli_w

from schedsearch.report.pictures import draw_trial, image
from schedsearch.report.pictures.curves import curves_of
from schedsearch.report.preview import sample_preview
from schedsearch.report.preview_text import preview_lines
from schedsearch.space import Space
from schedsearch.storage import get_only_study, open_database, plan_of
from tests.searches import begin, url_of

RATE = {"low": 0.01, "high": 0.3, "log": True}
CONTENT: dict[str, Any] = {
    "name": "small",
    "task": "tests.engines.toys:Toy",
    "horizon": 3,
    "objective": {"metric": "val_loss"},
    # Enough trials for several warm-ups whatever a worker, whose sampler has its own seed, draws.
    "search": {"trials": 20, "pruner": {"name": "none"}},
    "hyperparameters": {
        "lr": {
            "interval": "step",
            "families": {
                "constant": {"value": RATE},
                "warmup": {
                    "duration": {"low": "3%", "high": "20%"},
                    "inner": {"cosine": {"initial": RATE, "final": 0.001}},
                },
            },
        }
    },
}


@pytest.mark.long
@pytest.mark.parametrize("lanes", [1, 4])
def test_a_warmup_within_the_first_epoch_is_searched_exported_trained_and_confirmed(
    tmp_path: Path, lanes: int
) -> None:
    (tmp_path / "space.toml").write_text(tomli_w.dumps(CONTENT))
    flags = ("--storage", url_of(tmp_path))

    def run(*command: object) -> str:
        process = begin(*command, *flags, folder=tmp_path)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        return str(err)

    run("start", "space.toml", "--lanes", lanes)
    study = get_only_study(open_database(url_of(tmp_path)))
    trials = [t for t in study.complete_trials() if t.params.get("lr.family") == "warmup"]
    # The durations differ, though each is shorter than an epoch. Variants of a plan may keep its.
    durations = {t.params["lr.warmup.duration"] for t in trials}
    assert len(durations) > 1
    number = trials[0].number
    run("export", "small", "--trial", number, "-o", "best.toml")
    plan = Space.load(tmp_path / "best.toml").plan()
    assert plan == plan_of(trials[0])
    assert plan.moving == ("lr",)
    assert ": reproduced the recorded value " in run("train", "best.toml", "--no-reuse")
    run("confirm", "small", "--seeds", 6, "--top", 1, "--workers", 1)

    curves = curves_of(study.space, trials[0])
    values = curves.schedules["lr"]
    assert len(values) >= 200
    peak = values.index(max(values)) / len(values) * 3
    assert peak == pytest.approx(plan.resolve(3, 0).schedules["lr",].duration, abs=3 / 200)
    assert image(draw_trial(study.space, trials[0], None), "png")


def test_a_preview_draws_values_within_epochs() -> None:
    preview = sample_preview(Space.from_document(CONTENT, "space.toml"), 6, seed=0)
    warmups = [curve for curve in preview.curves if curve.family == "warmup"]
    assert all(len(curve.values) >= 200 for curve in preview.curves)
    for curve in warmups:
        assert curve.values[0] < max(curve.values[: curve.per_epoch])
    assert any("epoch 3" in line for line in preview_lines(preview, 80))
