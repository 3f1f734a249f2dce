"""Snapshots as bytes: safetensors, with JSON in the header. Nothing is pickled."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from schedsearch.engines import Snapshot

#: The only key of the header: safetensors writes several keys in random order, and then equal
#: snapshots would differ in their bytes.
_KEY = "snapshot"

_DTYPES = frozenset(
    {
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    }
)


def encode(snapshot: Snapshot) -> bytes | None:
    """Return a snapshot as the bytes of a safetensors file; equal snapshots give equal bytes.

    The state of a training loop may consist of tensors, numbers, text, None, lists, tuples and
    dicts.

    Returns:
        None if it holds anything else: such a run cannot be stored.
    """
    tensors: dict[str, Tensor] = {}
    try:
        header = {
            "epoch": snapshot.epoch,
            "model": _encode(dict(snapshot.model), tensors),
            "optimizer": _encode(dict(snapshot.optimizer), tensors),
            "extra": _encode(dict(snapshot.extra), tensors),
        }
    except TypeError:
        return None
    return save(tensors, {_KEY: json.dumps(header)})


def decode(content: bytes) -> Snapshot:
    """Return the snapshot that `encode` encoded, with its tensors on the CPU.

    Raises:
        ValueError: `encode` did not encode it.
    """
    try:
        # Compares all sizes in the header with the length of the content.
        tensors = load(content)
        header = json.loads(_header(content)["__metadata__"][_KEY])
        epoch = header["epoch"]
        parts = [_decode(header[part], tensors) for part in ("model", "optimizer", "extra")]
    except (
        SafetensorError,
        ArithmeticError,
        ValueError,
        TypeError,
        KeyError,
        RecursionError,
    ) as error:
        raise ValueError(f"not a snapshot: {error}") from None
    if type(epoch) is not int or not all(isinstance(part, dict) for part in parts):
        raise ValueError("not a snapshot: its parts have other types")
    return Snapshot(epoch, *parts)


def _header(content: bytes) -> dict[str, Any]:
    """Return the header of a safetensors file; the first 8 bytes are its length."""
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    return header


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a value as JSON, with its tensors moved to `tensors` under numbers.

    A value that JSON cannot express becomes a dict with one key: its type.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if kind in (Tensor, nn.Parameter):
        if value.layout is not torch.strided or value.dtype not in _DTYPES:
            raise TypeError(value.dtype)
        name = str(len(tensors))
        # A copy: safetensors refuses tensors that share memory.
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if kind is list:
        return [_encode(item, tensors) for item in value]
    if kind is tuple:
        return {"tuple": [_encode(item, tensors) for item in value]}
    if kind in (dict, OrderedDict):
        # Pairs: the keys of an optimizer's state are numbers, which JSON would turn into text.
        return {"dict": [[_encode(k, tensors), _encode(v, tensors)] for k, v in value.items()]}
    raise TypeError(kind)


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    [(kind, content)] = value.items()
    match kind:
        case "float":
            return float(content)
        case "tensor":
            return tensors[content]
        case "tuple":
            return tuple(_decode(item, tensors) for item in content)
        case _:
            return {_decode(k, tensors): _decode(v, tensors) for k, v in content}
