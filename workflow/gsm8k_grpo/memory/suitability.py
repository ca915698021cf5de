"""Whether the model suits the configuration: its context, its tokens, the targets of adapters, the loss of its experts.

Needs only config.json, and neither weights nor a GPU, so that `plan`, `doctor` and `train` refuse an unsuitable run
before any work is wasted on it.
"""

from collections.abc import Iterator

from transformers import PretrainedConfig

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.memory import shapes


def require_suitable(params: Params) -> None:
    """Require that the model can be trained and evaluated as configured.

    Raises:
        PipelineError: if it can't; the message names the key, its value, what is wrong, and what to set.
    """
    text = shapes.config_of(params).get_text_config()
    _require_padding(params, text)
    context = getattr(text, "max_position_embeddings", None)
    if context is not None:  # models with relative positions have no limit
        _require_context(params, context)
    if params.train.share_prompts and _learns_from_rewards(params) and _balances_experts(text):
        raise PipelineError(
            f"train.share_prompts = true: model {params.model} is a mixture of experts ({text.model_type}), and packed "
            "batches do not have the loss that balances its experts; set train.share_prompts: false"
        )
    if params.lora:
        shapes.shape_of(params).adapter(params.lora)


def _require_padding(params: Params, text: PretrainedConfig) -> None:
    padding, embeddings = getattr(text, "pad_token_id", None), text.vocab_size
    if padding is not None and padding >= embeddings:
        raise PipelineError(
            f"model = {params.model}: pad_token_id = {padding} in config.json, and the model has only {embeddings} "
            "embeddings; name a token below that"
        )


def _require_context(params: Params, context: int) -> None:
    """Require that lengths fit the model's context; prompts are measured when training and evaluation read them."""
    for key, length, has_prompt in _lengths(params):
        if length > context or (has_prompt and length == context):
            room = ", which leaves no room for a prompt" if has_prompt else ""
            remedy = f"set less than {context}" if has_prompt else f"set at most {context}"
            more = ", or raise base.architecture.context" if params.model == "scratch" else ""
            raise PipelineError(f"{key} = {length}: the model's context is {context} tokens{room}; {remedy}{more}")
    if params.vllm:
        longest = params.vllm.max_model_length
        if _learns_from_rewards(params) and params.engine == "vllm" and params.train.max_completion_length >= longest:
            raise PipelineError(
                f"train.max_completion_length = {params.train.max_completion_length}: vllm.max_model_length "
                f"({longest}) leaves no room for a prompt; lower the former or raise the latter"
            )


def _lengths(params: Params) -> Iterator[tuple[str, int, bool]]:
    """Keys with their lengths in tokens, and whether a prompt comes on top of the length."""
    if params.engine == "vllm" and params.vllm:
        yield "vllm.max_model_length", params.vllm.max_model_length, False
        if params.evaluate.max_model_length:
            yield "evaluate.max_model_length", params.evaluate.max_model_length, False
    if _learns_from_rewards(params):
        yield "train.max_completion_length", params.train.max_completion_length, True
    if not all(params.traits(variant).learns_from_rewards for variant in params.variants):
        yield "sft.max_length", params.sft.max_length, False
    yield "evaluate.max_completion_length", params.evaluate.max_completion_length, True


def _learns_from_rewards(params: Params) -> bool:
    return any(params.traits(variant).learns_from_rewards for variant in params.variants)


def _balances_experts(text: PretrainedConfig) -> bool:
    """Whether TRL adds the loss that balances experts: it does if the architecture can return the router's logits."""
    return getattr(text, "output_router_logits", None) is not None
