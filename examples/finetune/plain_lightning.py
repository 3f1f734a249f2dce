"""A plain training by Lightning, with the learning rate and the label smoothing of a config.

python plain_lightning.py best.toml
"""

import sys

from language import splits
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader
from with_lightning import LanguageModel

import schedsearch
from schedsearch.integrations.lightning import ScheduleCallback

config = schedsearch.load(sys.argv[1])
training, validation, test = splits(seed=0)
module = LanguageModel(seed=0)
schedule = ScheduleCallback(config.scheduler(), metric="val_loss", on_values=module.set_values)
trainer = Trainer(
    max_epochs=3,
    val_check_interval=1 / 3,
    accumulate_grad_batches=2,
    callbacks=[schedule],
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(module, DataLoader(training, 16, shuffle=True), DataLoader(validation, 128))
[result] = trainer.test(module, DataLoader(test, 128), verbose=False)
print(f"test loss {result['test_loss']:.4f}")
