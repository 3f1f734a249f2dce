"""A training by the Trainer that is refused while the current folder has a file `refuse`."""

from pathlib import Path

from schedsearch.engines.loop import LoopRun
from tests.integrations.trainers import HORIZON, make_trainer


def train(run: LoopRun) -> None:
    """Leave out an evaluation if that file exists."""
    delay = 2 if Path("refuse").exists() else 0
    trainer, _, _ = make_trainer(run.directory, source=run, horizon=HORIZON, eval_delay=delay)
    trainer.train()
    run.test(loss=trainer.evaluate()["eval_loss"])


train.hyperparameters = {"lr": 0.1}
