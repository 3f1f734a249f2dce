"""A plain training by transformers' Trainer, with the learning rate of an exported config.

python plain_trainer.py best.toml
"""

import sys

import torch
from language import make_model, splits
from transformers import Trainer, TrainingArguments

import schedsearch
from schedsearch.schedules import Constant

config = schedsearch.load(sys.argv[1])
decay = config.plan().schedules["weight_decay",]
if not isinstance(decay, Constant):
    sys.exit(f"weight_decay is {decay}, but this script sets it once: use ScheduleCallback")
training, validation, test = (
    [{"input_ids": sequence, "labels": sequence} for sequence in part] for part in splits(seed=0)
)
arguments = TrainingArguments(
    optim="adamw_torch",
    output_dir="finetuned",
    num_train_epochs=3,
    per_device_train_batch_size=16,
    per_device_eval_batch_size=128,
    gradient_accumulation_steps=2,
    eval_strategy="steps",
    eval_steps=3,
    save_strategy="no",
    report_to=[],
    disable_tqdm=True,
    use_cpu=True,
    seed=0,
)
model = make_model(seed=0)
matrices = [p for p in model.parameters() if p.ndim > 1]
vectors = [p for p in model.parameters() if p.ndim == 1]  # biases and norms do not decay
optimizer = torch.optim.AdamW(
    [
        {"params": matrices, "weight_decay": decay.value},
        {"params": vectors, "weight_decay": 0.0},
    ]
)
steps = 3 * len(training) // (16 * 2)  # optimizer steps of the training
scheduler = config.lr_scheduler(optimizer, steps_per_epoch=steps // config.horizon)
trainer = Trainer(
    model,
    arguments,
    train_dataset=training,
    eval_dataset=validation,
    optimizers=(optimizer, scheduler),
)
trainer.train()
print(f"test loss {trainer.evaluate(test)['eval_loss']:.4f}")
