"""A training by the Trainer of transformers with a plan; the argument is the folder of its files.

`torchrun` starts it in several processes. It says what refuses the training, or that it has ended.
"""

from __future__ import annotations

import sys
from pathlib import Path

from schedsearch.errors import InputError
from tests.integrations.trainers import make_trainer


def main(folder: Path) -> str:
    trainer, recorder, _ = make_trainer(folder)
    try:
        trainer.train()
    except InputError as error:
        return f"refused after {len(recorder.steps)} steps: {error}"
    return f"trained {len(recorder.steps)} steps"


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
