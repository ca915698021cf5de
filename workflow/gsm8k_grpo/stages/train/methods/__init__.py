"""The training methods: everything that the stage does differently from one method to another.

To add a method, write a subclass of `TrainingMethod` here, add its traits to `config.methods`, and list it below.  A
method that learns from sampled completions is a `SamplingMethod` with an `Objective` of its own, see
`stages.train.grpo.objective`; generation, packed batches, checkpoints and the log are those of GRPO.
"""

from typing import Any

from gsm8k_grpo.records import Method
from gsm8k_grpo.stages.train.methods.base import TrainingMethod
from gsm8k_grpo.stages.train.methods.grpo import GRPO
from gsm8k_grpo.stages.train.methods.online_dpo import OnlineDPO
from gsm8k_grpo.stages.train.methods.ppo import PPO
from gsm8k_grpo.stages.train.methods.rloo import RLOO
from gsm8k_grpo.stages.train.methods.sft import SFT

_METHODS: dict[Method, TrainingMethod[Any]] = {
    method.name: method for method in (GRPO(), RLOO(), OnlineDPO(), PPO(), SFT())
}


def method_of(name: Method) -> TrainingMethod[Any]:
    """The training method with a name that `params.variant_method` gives."""
    return _METHODS[name]
