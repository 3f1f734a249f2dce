"""A language model of characters, and text for it: the documentation that ships with Python."""

from pydoc_data.topics import topics

import torch
from torch import Tensor
from transformers import OPTConfig, OPTForCausalLM

LENGTH = 32  # characters of a sequence


def splits(seed: int) -> list[Tensor]:
    """Return 288 sequences for training, 128 for validation, and 128 fixed ones for the test."""
    text = torch.tensor(list("".join(topics.values()).encode("ascii", "replace")))
    sequences = text[: len(text) // LENGTH * LENGTH].view(-1, LENGTH)
    order = torch.randperm(len(sequences), generator=torch.Generator().manual_seed(0))
    mixed = torch.randperm(416, generator=torch.Generator().manual_seed(seed))
    rest, test = sequences[order[:416]][mixed], sequences[order[416:544]]
    return [rest[:288], rest[288:], test]


def make_model(seed: int) -> OPTForCausalLM:
    """Return a transformer of two layers with random initial weights."""
    torch.manual_seed(seed)
    config = OPTConfig(
        vocab_size=128,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=64,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=False,
    )
    return OPTForCausalLM(config)
