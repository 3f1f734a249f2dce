"""A training loop that prints in every way there is, and writes nothing else."""

import ctypes
import os
import subprocess
import sys

from schedsearch.engines.loop import LoopRun

print("chatty: imported")


def train(run: LoopRun) -> None:
    for epoch, hp in run:
        print(f"chatty: print {epoch}")
        os.write(1, b"chatty: descriptor\n")
        ctypes.CDLL(None).puts(b"chatty: C library")
        subprocess.run([sys.executable, "-c", "print('chatty: child')"], check=True)
        run.report(val_loss=hp["lr"] / (1 + epoch))
    run.test(loss=hp["lr"])


train.hyperparameters = {"lr": 0.1}
