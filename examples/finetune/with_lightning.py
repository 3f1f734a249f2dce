"""Search the learning rate and the label smoothing of a training by Lightning.

    schedsearch start with_lightning.toml --workers 2

It trains for three epochs of the data and validates every third of one. What lies between two
validations is an epoch of the plan, so the plan has nine.
"""

import logging

import torch
from language import make_model, splits
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from schedsearch import LoopRun
from schedsearch.integrations.lightning import ScheduleCallback


class LanguageModel(LightningModule):
    """Predicts the next character; `label_smoothing` applies to the training only."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.model = make_model(seed).train()
        self.label_smoothing = 0.0

    def set_values(self, values: dict[str, float]) -> None:
        """Set the values that have no place in an optimizer."""
        self.label_smoothing = values["label_smoothing"]

    def loss(self, batch: Tensor, label_smoothing: float = 0.0) -> Tensor:
        logits = self.model(input_ids=batch).logits[:, :-1]
        return cross_entropy(
            logits.flatten(0, 1), batch[:, 1:].flatten(), label_smoothing=label_smoothing
        )

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        return self.loss(batch, self.label_smoothing)

    def validation_step(self, batch: Tensor, index: int) -> None:
        self.log("val_loss", self.loss(batch))

    def test_step(self, batch: Tensor, index: int) -> None:
        self.log("test_loss", self.loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), weight_decay=0.01)


def train(run: LoopRun) -> None:
    """Train one run of a search, or the rest of one that another worker has lost."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    module = LanguageModel(run.seed)
    training, validation, test = splits(run.seed)
    schedule = ScheduleCallback(run, metric="val_loss", on_values=module.set_values)
    # The next worker of this trial finds it. At the end of an epoch of the data, because Lightning
    # does not save which sequences are left within one.
    keep = ModelCheckpoint(run.directory, save_last=True, save_on_train_epoch_end=True)
    trainer = Trainer(
        max_epochs=3,
        val_check_interval=1 / 3,
        accumulate_grad_batches=2,
        callbacks=[schedule, keep],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    last = run.directory / "last.ckpt"
    if last.exists():
        print(f"continue from {last.name}")
    trainer.fit(
        module,
        DataLoader(training, 16, shuffle=True),
        DataLoader(validation, 128),
        ckpt_path=last if last.exists() else None,
    )
    [result] = trainer.test(module, DataLoader(test, 128), verbose=False)
    run.test(loss=result["test_loss"])  # what `confirm` compares


train.hyperparameters = {"lr": 0.003, "label_smoothing": 0.0}
