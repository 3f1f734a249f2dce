"""The objective `value = "best"` with callbacks: the best epoch's model is tested and saved."""

from __future__ import annotations

import json

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, ModelPruning
from safetensors.torch import load
from transformers import EarlyStoppingCallback
from transformers.trainer_utils import get_last_checkpoint

from schedsearch.engines.loop import LoopEngine
from schedsearch.integrations.lightning import ScheduleCallback
from schedsearch.plan import Plan
from schedsearch.reproduction import TrainedRun, model_bytes
from schedsearch.run import Run
from schedsearch.schedules import Piecewise
from schedsearch.space import Space
from schedsearch.training import train_to_end
from tests.integrations import lightning_trainings as lightning
from tests.integrations.lightning_trainings import HORIZON
from tests.integrations.trainers import make_trainer
from tests.searches import begin, document, write_space

pytestmark = pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*:FutureWarning")
#: The second epoch is the best one: the rate of the later ones makes the loss grow.
PLAN = Plan({("lr",): Piecewise(values=(0.05, 0.05, 0.9, 0.9), duration=HORIZON)})


def trained(task, metric, value="best"):
    """Train a run of a task, and return it with its model and its metrics on the test split."""
    task.hyperparameters = {"lr": 0.1}
    space = Space.from_document(
        {
            "name": "best",
            "task": "tests.searches:train",
            "horizon": HORIZON,
            "objective": {"metric": metric, "value": value},
            "hyperparameters": {"lr": {"default": 0.1}},
        },
        "best.toml",
    )
    engine = LoopEngine(task, horizon=HORIZON)
    run = Run(engine, space=space, plan=PLAN, seed=1, keep_best=True)
    train_to_end([run])
    model = run.model_snapshot()
    test = run.test()
    assert engine.raised is None
    run.leave_lane()
    assert run.history.objective(metric).index(run.value) == 1
    made = TrainedRun(1, 2, run.value, run.history, test, None, model, 4, 0, 0, None)
    saved = model_bytes(made, space)
    assert saved is not None
    return run, load(saved), test


class Steps(Callback):
    """Counts the batches that a trainer trains."""

    def __init__(self):
        self.count = 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.count += 1


#: Callbacks with which the model that is validated is another one than the module.
CHANGING_MODELS = {
    "none": lambda: None,
    "averaging": lambda: EMAWeightAveraging(decay=0.5),
    "pruning": lambda: pruning(make_pruning_permanent=True),
    "masks": lambda: pruning(make_pruning_permanent=False),
}


def pruning(**options):
    # Pruned in the first epoch only, so that the second one is still the best.
    return ModelPruning("l1_unstructured", amount=1, apply_pruning=lambda e: e == 0, **options)


@pytest.mark.parametrize("path", [None, "best"])
@pytest.mark.parametrize("callback", CHANGING_MODELS)
@pytest.mark.filterwarnings("ignore:.*Parametrizations.*")
def test_lightning_tests_the_model_of_the_best_epoch(tmp_path, path, callback):
    steps, losses = [], []

    def train(run):
        torch.manual_seed(run.seed)
        module, counted = lightning.Model(), Steps()
        more = [made] if (made := CHANGING_MODELS[callback]()) else []
        more.append(ModelCheckpoint(run.directory, save_last=True))
        schedule = ScheduleCallback(run, metric="val_loss")
        trainer = lightning.trainer(schedule, counted, *more, enable_checkpointing=True)
        last = run.directory / "last.ckpt"
        trainer.fit(
            module,
            lightning.data(),
            lightning.data(2),
            ckpt_path=last if last.exists() else None,
            weights_only=True,
        )
        steps.append(counted.count)
        [result] = trainer.test(module, lightning.data(2), ckpt_path=path, verbose=False)
        losses.append(result["test_loss"])
        run.test(loss=result["test_loss"])

    run, model, test = trained(train, "val_loss")
    # The test split has the data of the validation.
    assert test == {"test_loss": pytest.approx(run.value)}
    assert steps == [HORIZON * lightning.BATCHES, 0]
    assert losses[0] != losses[1] or path == "best"
    best = lightning.Model()
    best.load_state_dict({n.removeprefix("model."): tensor for n, tensor in model.items()})
    [batch] = (lightning.data(2).dataset.tensors,)
    assert best.loss(list(batch)).item() == pytest.approx(run.value)


@pytest.mark.parametrize("early", [False, True])
def test_the_trainer_tests_the_model_of_the_best_epoch(tmp_path, early):
    steps = []

    def train(run):
        more = {"load_best_model_at_end": True, "save_strategy": "epoch"} if early else {}
        after = (EarlyStoppingCallback(1),) if early else ()
        folder = run.directory
        trainer, recorder, _ = make_trainer(
            folder, source=run, after=after, metric_for_best_model="loss", **more
        )
        trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder)))
        steps.append(len(recorder.steps))
        run.test(loss=trainer.evaluate()["eval_loss"])

    run, model, test = trained(train, "eval_loss")
    assert test == {"test_loss": pytest.approx(run.value)}
    assert steps == [8 * (3 if early else HORIZON), 1]
    assert set(model) == {
        f"model.{part}.{kind}" for part in ("hidden", "norm", "out") for kind in ("weight", "bias")
    }


@pytest.mark.long
def test_a_search_for_the_best_epoch_is_confirmed_on_test_and_trained_again(tmp_path):
    content = document(pruner={"name": "none"}, trials=16) | {
        "task": "tests.integrations.refused:train",
        "horizon": HORIZON,
        "objective": {"metric": "eval_loss", "value": "best"},
    }
    rate, decay = {"low": 0.005, "high": 0.05}, {"low": 0.5, "high": 1.0}
    families = {"constant": {"value": rate}, "exponential": {"initial": rate, "decay_rate": decay}}
    content["hyperparameters"] = {"lr": {"families": families}}
    write_space(tmp_path, content)

    def run(*arguments):
        process = begin(*arguments, folder=tmp_path)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert "checkpoint" not in err
        return out

    run("start", "small.toml")
    confirmed = json.loads(run("confirm", "small", "--seeds", "6", "--top", "1", "--json"))
    assert confirmed["metric"] == "test_loss"
    run("export", "small", "-o", "best.toml")
    trained = json.loads(
        run("train", "best.toml", "--no-reuse", "-o", "best.safetensors", "--json")
    )
    [result] = trained["runs"]
    # The training evaluates on its validation data again as its test.
    assert result["test"]["test_loss"] == pytest.approx(result["value"])
    assert min(result["metrics"]["eval_loss"]) == result["value"]
    assert "model.out.weight" in load((tmp_path / "best.safetensors").read_bytes())
