"""A training with Accelerate that writes the learning rate of each optimizer step, as JSON.

`torchrun` starts it in several processes. The arguments are the config, the batches of an
optimizer step, and the folder in which each process writes a file named after its rank.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import accelerate
import torch

import schedsearch


def train(accelerator: accelerate.Accelerator, path: str, accumulation: int) -> list[float]:
    """Train with the plan of a config; return the learning rate of each optimizer step."""
    config = schedsearch.load(path)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters())
    loader = torch.utils.data.DataLoader(torch.ones(20, 1), 2)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    # As docs/integrations.md says: the loader is that of one process.
    steps = math.ceil(len(loader) / accumulation) * accelerator.num_processes
    scheduler = accelerator.prepare(config.lr_scheduler(optimizer, steps_per_epoch=steps))
    rates = []
    for _ in range(config.horizon):
        for batch in loader:
            with accelerator.accumulate(model):
                accelerator.backward(model(batch).square().mean())
                if accelerator.sync_gradients:
                    rates.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
    return rates


def main(path: str, accumulation: int, folder: Path) -> None:
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=accumulation)
    rates = train(accelerator, path, accumulation)
    found = {"rank": accelerator.process_index, "of": accelerator.num_processes, "rates": rates}
    (folder / f"{accelerator.process_index}.json").write_text(json.dumps(found))
    # A DDP model that outlives its process group may abort the process at its end.
    accelerator.free_memory()
    accelerator.end_training()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
