"""What `on_values` has to read, and when."""

import pytest

from schedsearch.errors import TrainingRefusedError
from schedsearch.integrations.value_function import ValueFunction


def test_a_value_that_the_first_call_does_not_read_is_refused_with_that_time():
    function = ValueFunction(lambda values: values["lr"])
    function.expect(["lr", "smoothing"])
    with pytest.raises(TrainingRefusedError) as refused:
        function.call({"lr": 0.1, "smoothing": 0.2})
    assert "sets `smoothing`, but nothing" in str(refused.value)
    assert "has not read it at its first call" in str(refused.value)
    assert "epoch" not in str(refused.value)


def test_kept_values_may_be_read_by_the_end_of_the_first_epoch():
    kept = []
    function = ValueFunction(kept.append)
    function.expect(["lr", "smoothing"])
    function.call({"lr": 0.1, "smoothing": 0.2})
    assert kept.pop()["lr"] == 0.1
    with pytest.warns(UserWarning, match="`smoothing`.* has not read it in its first epoch"):
        function.end_epoch()


def test_a_function_that_pops_its_values_reads_them():
    function = ValueFunction(lambda values: values.pop("smoothing"))
    function.expect(["smoothing"])
    function.call({"smoothing": 0.2})
    function.end_epoch()
