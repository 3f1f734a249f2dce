"""A training by transformers' Trainer: a callback sets the values of each epoch, and reports it.

    schedsearch start NAME.toml

Put your data and your model in place of these.
"""

import tempfile

import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from schedsearch import LoopRun
from schedsearch.integrations.transformers import ScheduleCallback


def sequences() -> list[dict[str, Tensor]]:
    """Return 900 sequences of 12 tokens; the label says whether more are above 4 than below."""
    tokens = torch.randint(10, (900, 12), generator=torch.Generator().manual_seed(0))
    labels = ((tokens > 4).sum(dim=1) > 6).long()
    return [{"input_ids": t, "labels": label} for t, label in zip(tokens, labels, strict=True)]


def train(run: LoopRun) -> None:
    """Train once: with the values of `run`, for as long as the search wants."""
    # 300 sequences to train, 200 to validate, and always the same 400 to test.
    data = sequences()
    torch.manual_seed(run.seed)
    training, validation = torch.randperm(500).split([300, 200])
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=10,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model,
            TrainingArguments(
                output_dir=folder,
                num_train_epochs=run.horizon,
                per_device_train_batch_size=30,
                per_device_eval_batch_size=400,
                eval_strategy="epoch",  # schedules step on one evaluation per epoch
                lr_scheduler_type="constant",  # the schedule moves the learning rate
                save_strategy="no",
                logging_strategy="no",
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
                seed=run.seed,
            ),
            train_dataset=[data[i] for i in training],
            eval_dataset=[data[i] for i in validation],
            # The evaluation metric that NAME.toml names as its objective.
            callbacks=[ScheduleCallback(run, metric="eval_loss")],
        )
        trainer.remove_callback(PrinterCallback)  # it prints every evaluation
        trainer.train()
        # `confirm` compares on the test split, which the search never sees.
        run.test(eval_loss=trainer.evaluate(data[500:])["eval_loss"])


# Every value that the callback sets. NAME.toml says which of them move.
train.hyperparameters = {"lr": 0.003, "weight_decay": 0.0}
