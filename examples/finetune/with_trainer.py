"""Search the learning rate and the weight decay of a training by transformers' Trainer.

    schedsearch start with_trainer.toml --workers 2

It trains for three epochs of the data and evaluates every third of one. The interval between two
evaluations is an epoch of the plan, so the plan has nine.
"""

from pathlib import Path

from language import make_model, splits
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils.logging import disable_progress_bar

from schedsearch import LoopRun
from schedsearch.integrations.transformers import ScheduleCallback


def dataset(sequences: Tensor) -> list[dict[str, Tensor]]:
    """Return sequences as the Trainer reads them; the model shifts the labels."""
    return [{"input_ids": sequence, "labels": sequence} for sequence in sequences]


def train(run: LoopRun) -> None:
    """Train one run of a search, or the rest of one that another worker has lost."""
    training, validation, test = map(dataset, splits(run.seed))
    arguments = TrainingArguments(
        output_dir=run.directory,  # the next worker of this trial finds the checkpoints there
        num_train_epochs=3,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=128,
        gradient_accumulation_steps=2,
        optim="adamw_torch",
        lr_scheduler_type="constant",  # the plan sets the learning rate
        eval_strategy="steps",
        eval_steps=3,  # of the nine optimizer steps of an epoch of the data
        save_strategy="steps",
        save_steps=3,
        save_total_limit=1,
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        seed=run.seed,
    )
    trainer = Trainer(
        make_model(run.seed),
        arguments,
        train_dataset=training,
        eval_dataset=validation,
        callbacks=[ScheduleCallback(run, metric="eval_loss")],
    )
    trainer.remove_callback(PrinterCallback)  # it prints each evaluation
    disable_progress_bar()  # of writing and loading a model
    checkpoint = get_last_checkpoint(run.directory)
    if checkpoint:
        print(f"continue from {Path(checkpoint).name}")
    trainer.train(resume_from_checkpoint=checkpoint)
    run.test(eval_loss=trainer.evaluate(test)["eval_loss"])  # what `confirm` compares


train.hyperparameters = {"lr": 0.003, "weight_decay": 0.01}
