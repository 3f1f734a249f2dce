"""Built-in tasks: real data, offline, seconds per run."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: The reference of each built-in task, by its name.
BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "noisy_digits": "schedsearch.tasks.noisy_digits:NoisyDigits",
        "smoothed_digits": "schedsearch.tasks.smoothed_digits:SmoothedDigits",
        "long_tail": "schedsearch.tasks.long_tail:LongTail",
        "noisy_mnist": "schedsearch.tasks.noisy_mnist:NoisyMnist",
        "registration": "schedsearch.tasks.registration:Registration",
        "burgers": "schedsearch.tasks.burgers:Burgers",
        "helmholtz": "schedsearch.tasks.helmholtz:Helmholtz",
        "vae": "schedsearch.tasks.vae:Vae",
        "regularized": "schedsearch.tasks.regularized:Regularized",
        "two_losses": "schedsearch.tasks.two_losses:TwoLosses",
    }
)
