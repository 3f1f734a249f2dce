"""The schema of a stored confirmation: a wrong type is a mistake, not a value to convert."""

from __future__ import annotations

import math

import pytest
from pydantic import TypeAdapter, ValidationError

from schedsearch.confirmation.result_schema import Interval


@pytest.mark.parametrize("ends", [["0.1", "0.2"], [0.1, "0.2"], [0.2, 0.1], [math.nan, 1.0]])
def test_an_interval_is_two_numbers_in_ascending_order(ends):
    adapter = TypeAdapter(Interval)
    assert adapter.validate_python([-math.inf, 1]) == (-math.inf, 1.0)
    with pytest.raises(ValidationError):
        adapter.validate_python(ends)
