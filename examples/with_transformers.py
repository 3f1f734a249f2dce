"""A training by the Trainer of transformers: search for its schedules, train with the result.

    schedsearch start examples/with_transformers.toml --trials 20
    schedsearch export with_transformers -o best.toml
    python examples/with_transformers.py best.toml

A small BERT with random initial weights reads handwritten digits, one token per pixel.
"""

import sys
import tempfile

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
)

import schedsearch
from schedsearch import LoopRun
from schedsearch.integrations.transformers import ScheduleCallback


class Pixels(Dataset[dict[str, Tensor]]):
    """Digits as sequences of 64 tokens."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.images[index], "labels": self.labels[index]}


def splits(seed: int) -> list[Pixels]:
    """Return 400 digits for training, 200 for validation, and 200 fixed ones for the test."""
    digits = load_digits()
    images, labels = torch.tensor(digits.data).long(), torch.tensor(digits.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    mixed = order[200:][
        torch.randperm(len(order) - 200, generator=torch.Generator().manual_seed(seed))
    ]
    return [
        Pixels(images[part], labels[part]) for part in (mixed[:400], mixed[400:600], order[:200])
    ]


class SmoothingTrainer(Trainer):
    """Trains with a schedule for label smoothing."""

    smoothing = 0.0

    def set(self, values: dict[str, float]) -> None:
        """Set the values of the epoch."""
        self.smoothing = values["label_smoothing"]

    def compute_loss(self, model, inputs, return_outputs=False, **given):
        """Return the smoothed cross-entropy in training, the plain one in evaluation."""
        outputs = model(input_ids=inputs["input_ids"])
        smoothing = self.smoothing if model.training else 0.0
        loss = nn.functional.cross_entropy(
            outputs.logits, inputs["labels"], label_smoothing=smoothing
        )
        return (loss, outputs) if return_outputs else loss


def trainer(source: LoopRun | schedsearch.Scheduler, epochs: int, seed: int) -> SmoothingTrainer:
    """Return a trainer that reads its values from a scheduler, or from the run of a search."""
    torch.manual_seed(seed)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = BertForSequenceClassification(
        BertConfig(vocab_size=17, intermediate_size=64, num_labels=10, **shape)
    )
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=epochs,
        per_device_train_batch_size=50,
        per_device_eval_batch_size=200,
        eval_strategy="epoch",
        lr_scheduler_type="constant",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        seed=seed,
    )
    training, validation, _ = splits(seed)
    made = SmoothingTrainer(model, arguments, train_dataset=training, eval_dataset=validation)
    made.add_callback(ScheduleCallback(source, metric="eval_loss", on_values=made.set))
    return made


def train(run: LoopRun) -> None:
    """Train one run of a search, which ends when it is pruned."""
    made = trainer(run, run.horizon, run.seed)
    made.train()
    run.test(eval_loss=made.evaluate(splits(run.seed)[2])["eval_loss"])


train.hyperparameters = {"lr": 0.003, "label_smoothing": 0.0}


if __name__ == "__main__":
    config = schedsearch.load(sys.argv[1])
    made = trainer(config.scheduler(), config.horizon, seed=0)
    made.train()
    print(f"test loss {made.evaluate(splits(0)[2])['eval_loss']:.4f}")
