"""Optimizers of packages in the Trainer of transformers."""

from __future__ import annotations

import pytest

from schedsearch.errors import InputError
from tests.integrations.trainers import (
    BATCHES,
    PLAN_BY_STEP,
    by_interval,
    make_trainer,
)

pytestmark = pytest.mark.filterwarnings("ignore:This implementation of AdamW is deprecated")
#: Options of TrainingArguments that train the large matrix of the network by the optimizer.
LAYERS = {"optim_target_modules": ["hidden"], "optim_args": "rank=2, scale=1.0"}


@pytest.mark.parametrize(
    ("optim", "options"),
    [
        ("schedule_free_sgd", {}),
        ("schedule_free_adamw", {}),
        ("apollo_adamw", LAYERS),
        ("galore_adamw", LAYERS),
    ],
)
def test_an_optimizer_of_a_package_has_the_learning_rate_of_the_plan(tmp_path, optim, options):
    trainer, recorder, _ = make_trainer(tmp_path, PLAN_BY_STEP, optim=optim, **options)
    trainer.train()
    assert recorder.values == by_interval([BATCHES] * 4, PLAN_BY_STEP)


@pytest.mark.parametrize(
    ("optim", "options"),
    [
        ("lomo", {}),
        ("apollo_adamw_layerwise", LAYERS),
        ("galore_adamw_layerwise", LAYERS),
    ],
)
def test_an_optimizer_that_updates_parameters_by_itself_is_refused(tmp_path, optim, options):
    trainer, recorder, _ = make_trainer(tmp_path, optim=optim, **options)
    with pytest.raises(InputError, match=f"optim='{optim}' has optimizers or updates other than"):
        trainer.train()
    assert not recorder.steps


def test_a_schedule_free_optimizer_that_warms_up_is_refused(tmp_path):
    trainer, recorder, _ = make_trainer(tmp_path, optim="schedule_free_adamw", warmup_steps=3)
    with pytest.raises(InputError, match="in its first 3 steps: set warmup_steps=0"):
        trainer.train()
    assert not recorder.steps
