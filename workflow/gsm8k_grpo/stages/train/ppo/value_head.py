"""The value head: a linear map from the states that the language model's head reads to one number per token."""

import torch
from torch import Tensor, nn


class ValueHead(nn.Module):
    """Computes in 32 bit whatever the policy computes in, since returns are small differences of large numbers.

    It begins with zeros, as in Ziegler et al. (2019), so the first values do not depend on chance.
    """

    def __init__(self, hidden: int):
        super().__init__()
        self.linear = nn.Linear(hidden, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, states: Tensor) -> Tensor:
        """(..., hidden) states to (...) values in float32."""
        with torch.autocast(states.device.type, enabled=False):
            return self.linear(states.float()).squeeze(-1)
