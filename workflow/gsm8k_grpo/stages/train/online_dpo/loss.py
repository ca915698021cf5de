"""The losses of online DPO, from the log-probabilities of pairs of completions.

The margin of a pair is how much more the policy than its reference prefers the better completion:

    margin = log(policy(best) / reference(best)) - log(policy(worst) / reference(worst))

where the log-probability of a completion is the sum over its tokens.
"""

from typing import Literal

from torch import Tensor
from torch.nn.functional import logsigmoid

Preference = Literal["sigmoid", "ipo"]


def margins(logps: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """(pairs,) the margin of each pair.

    Args:
        logps, reference: (2 * pairs, length) log-probabilities of the tokens under the policy and its reference; the
            better completion of each pair is followed by the worse one.
        mask: the same shape, 1 for the tokens of the completions and 0 for padding.
    """
    ratios = ((logps - reference) * mask).sum(1).view(-1, 2)
    return ratios[:, 0] - ratios[:, 1]


def pair_losses(margins: Tensor, beta: float, loss: Preference) -> Tensor:
    """(pairs,) the loss of each pair; Guo et al. (2024), arXiv 2402.04792, use both on the policy's own completions.

    - `sigmoid`: -log sigmoid(beta * margin), from DPO (Rafailov et al. 2023, arXiv 2305.18290, equation 7).  It keeps
      falling as the margin grows.
    - `ipo`: (margin - 1 / (2 * beta))**2, from IPO (Azar et al. 2023, arXiv 2310.12036, equation 17).  It is lowest at
      a finite margin.

    Args:
        beta: how strongly the policy is held to its reference.
    """
    if loss == "sigmoid":
        return -logsigmoid(beta * margins)
    return (margins - 1 / (2 * beta)) ** 2
