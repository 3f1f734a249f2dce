"""Training a config from scratch, and comparing the result with the value that it records."""

from schedsearch.reproduction.config_trainer import ConfigTrainer
from schedsearch.reproduction.result_json import to_json
from schedsearch.reproduction.trained_run import TrainedRun, model_bytes

__all__ = ["ConfigTrainer", "TrainedRun", "model_bytes", "to_json"]
