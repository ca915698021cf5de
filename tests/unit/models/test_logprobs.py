"""Log-probabilities by chunks of tokens."""

import pytest
import torch
from gsm8k_grpo.models import logprobs
from torch._dynamo.testing import CompileCounter

WIDTH, VOCABULARY = 8, 50


def inputs(tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """States that are a part of others, as those of the completions in a packed batch, and their targets."""
    states = torch.randn(tokens + 5, WIDTH, requires_grad=True)[torch.arange(tokens)]
    return states, torch.randint(0, VOCABULARY, (tokens,))


@pytest.fixture
def head() -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(WIDTH, VOCABULARY, bias=False)


@pytest.mark.parametrize("tokens", [700, logprobs.CHUNK, 2500])
def test_log_probabilities_and_gradients_are_those_of_the_whole_logits(head, tokens):
    states, targets = inputs(tokens)
    logps, entropies = logprobs.logps_and_entropies(states, head, targets, 0.7)
    (gradient,) = torch.autograd.grad(logps.sum(), head.weight)
    whole = (head(states) / 0.7).log_softmax(-1)
    expected = whole.gather(1, targets[:, None])[:, 0]
    assert torch.allclose(logps, expected, atol=1e-5)
    assert torch.allclose(entropies, -(whole.exp() * whole).sum(1), atol=1e-5)
    assert torch.allclose(gradient, torch.autograd.grad(expected.sum(), head.weight)[0], rtol=1e-3, atol=1e-3)


def test_a_chunk_is_compiled_once_whatever_the_number_of_tokens(head):
    """Each compilation takes seconds of a training on a GPU."""
    counter = CompileCounter()
    chunk = torch.compile(logprobs.chunk, backend=counter, dynamic=True)
    for tokens in (700, 2500, logprobs.CHUNK, 500, 2 * logprobs.CHUNK):
        states, targets = inputs(tokens)
        logps, _ = logprobs.logps_and_entropies(states, head, targets, 1.0, chunk)
        logps.sum().backward()
    assert counter.frame_count == 1
