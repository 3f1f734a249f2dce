"""The list of all families, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from schedsearch.schedules.base import Schedule
from schedsearch.schedules.decay import Constant, Exponential

FAMILIES: Mapping[str, type[Schedule]] = MappingProxyType(
    {cls.family: cls for cls in (Constant, Exponential)}
)
