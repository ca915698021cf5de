"""The types of weights and of computation that `precision` and `quantization` name."""

import torch
from transformers import BitsAndBytesConfig

from gsm8k_grpo.config.params import Params

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "mixed": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""The type of the weights for each `precision`."""

COMPUTED = {"float32": "float32", "mixed": "bfloat16", "bfloat16": "bfloat16", "float16": "float16"}
"""The type of computation for each `precision`, as vLLM names it."""


def quantization(params: Params) -> BitsAndBytesConfig | None:
    """How weights are quantised as they are loaded; None if they are not."""
    if params.quantization is None:
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=DTYPES[params.precision],
    )
