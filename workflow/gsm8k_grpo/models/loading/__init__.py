"""Load a model and its tokenizer from the hub or from a folder, and add adapters.

The model's files are checked before anything is loaded (`models.refusals`).  A model's own settings for sampling and
dropout are ignored: the configuration decides both, so that every model is trained and evaluated alike.
"""

from gsm8k_grpo.models.loading.adapters import adapt, continue_adapter
from gsm8k_grpo.models.loading.networks import (
    CPU_ATTENTION,
    leave_sampling_to_the_configuration,
    load,
    load_config,
    require_embeddings,
    size,
)
from gsm8k_grpo.models.loading.precision import COMPUTED, DTYPES
from gsm8k_grpo.models.loading.sources import Source, source
from gsm8k_grpo.models.loading.tokenizers import keep_end_tokens, load_tokenizer

__all__ = [
    "COMPUTED",
    "CPU_ATTENTION",
    "DTYPES",
    "Source",
    "adapt",
    "continue_adapter",
    "keep_end_tokens",
    "leave_sampling_to_the_configuration",
    "load",
    "load_config",
    "load_tokenizer",
    "require_embeddings",
    "size",
    "source",
]
