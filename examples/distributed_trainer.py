"""The Trainer of transformers in a search: several processes train each trial.

    schedsearch start examples/distributed_trainer.toml --processes-per-trial 2 --trials 20

A trial that was lost or handed back continues from the last checkpoint of the Trainer.
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from schedsearch import LoopRun
from schedsearch.integrations.transformers import ScheduleCallback


class Digits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.net(images)
        return {"loss": cross_entropy(logits, labels), "logits": logits}


def train(run: LoopRun) -> None:
    """Classify digits, with a schedule for the learning rate."""
    torch.manual_seed(run.seed)  # equal models and splits in all processes
    digits = load_digits()
    images, labels = torch.tensor(digits.data / 16.0).float(), torch.tensor(digits.target)
    order = torch.randperm(len(labels)).tolist()
    examples = [{"images": images[i], "labels": labels[i]} for i in order]
    has_gpu = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(run.directory),
        num_train_epochs=run.horizon,
        per_device_train_batch_size=run.arguments["batch_size"] // run.processes,
        per_device_eval_batch_size=200,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        lr_scheduler_type="constant",
        optim="sgd",
        use_cpu=not has_gpu,
        ddp_backend="nccl" if has_gpu else "gloo",
        ddp_find_unused_parameters=False,
        seed=run.seed,
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = Trainer(
        Digits(),
        arguments,
        train_dataset=examples[:1000],
        eval_dataset=examples[1000:1400],
        callbacks=[ScheduleCallback(run, metric="eval_loss")],
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(run.directory)))
    if not run.ended_early:
        run.test(loss=trainer.evaluate(examples[1400:])["eval_loss"])


train.hyperparameters = {"lr": 0.1}
train.arguments = {"batch_size": 50}
