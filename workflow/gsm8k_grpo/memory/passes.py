"""What the forward and the backward pass of a batch take."""

from gsm8k_grpo.config.methods import METHODS
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Train
from gsm8k_grpo.memory.parts import GIB, Part, computed_bytes
from gsm8k_grpo.memory.shapes import Shape
from gsm8k_grpo.memory.weights import trained_weights
from gsm8k_grpo.models import logprobs

# Bytes that a layer keeps per token for the backward pass, per unit of the hidden and of the intermediate size, when
# computed in 16 bit; keys and values are added.  tests/unit/memory/test_plan.py counts the tensors that PyTorch saves.
# Hidden: inputs of two norms in 32 bit (8), inputs of the projections (4), queries and attention's output (4); if all
# weights are trained, outputs of the norms (4).  Intermediate: gate, its activation, up, and their product.
KEPT_HIDDEN = 16
KEPT_HIDDEN_TRAINED = 20
KEPT_INTERMEDIATE = 8
# Compiled layers recompute in the backward pass whatever needs no matrix product.
KEPT_HIDDEN_COMPILED = 12
KEPT_INTERMEDIATE_COMPILED = 6
# Gradients of a layer's activations in the backward pass, as a share of what the layer keeps.
PASSING = 0.5
# Bytes per logit at the peak of the backward pass.  With TRL: the logits in 32 bit, and the gradients through their two
# uses.  Chunks need these together with the recomputed forward pass; compiled, most of them are never written.
LOGIT_BYTES = 16
CHUNK_LOGIT_BYTES = 20
COMPILED_LOGIT_BYTES = 8
# After generation by transformers PyTorch holds fragments too small for a tensor of logits: about as much as the logits
# take in 32 bit, as measured with rtx3080, both with all weights trained and with adapters.
UNPLACED_LOGIT_BYTES = 4
# Supervised fine-tuning, for all tokens of a batch: the loss in 32 bit, and its gradient.
SFT_LOGIT_BYTES = 12
# TRL's chunked loss has the logits of this many tokens at a time, and the head's weights in 32 bit and in 16 bit.
SFT_CHUNK = 256
HEAD_BYTES = 6
# A completion token's state, which the value head of PPO reads in 32 bit, and its gradient.
VALUE_STATE_BYTES = 8
UNSLOTH_CHUNKS = 4  # parts into which Unsloth's loss splits a batch
# The tokens of a batch with its padding, where the update runs as CUDA graphs (stages.train.grpo.cuda_graphs.buckets).
PADDED = 1.25


def of_update(params: Params, shape: Shape, prompt: int) -> list[Part]:
    """The forward and the backward pass of one batch."""
    train, tokens = params.train, _batch_tokens(params, prompt)
    if train.cuda_graphs:
        tokens = int(PADDED * tokens)
    layer_bytes = kept(params, shape, train.compile)
    unsloth = params.backend == "unsloth"  # keeps checkpointed inputs in the computer's memory
    logits, logit_bytes = _logits(params)
    activations = _activations(params, shape, tokens, layer_bytes, train.gradient_checkpointing, offloaded=unsloth)
    return [
        activations,
        *_update_graphs(params, shape, tokens, activations.gib),
        Part("logits", logits * shape.vocabulary * logit_bytes / GIB, f"{logits:,} tokens by {shape.vocabulary:,}"),
        *_values(params, shape),
        _restored(params, shape),
    ]


def of_supervised(params: Params, shape: Shape, length: int) -> list[Part]:
    """The passes of a batch of supervised fine-tuning, which need the logits of all of its tokens."""
    tokens = params.sft.per_device_train_batch_size * length
    if params.sft.loss_type == "chunked_nll":
        head = shape.vocabulary * shape.hidden * HEAD_BYTES
        logits = min(SFT_CHUNK, tokens) * shape.vocabulary * CHUNK_LOGIT_BYTES + head
        remark = f"{min(SFT_CHUNK, tokens):,} tokens by {shape.vocabulary:,}, and the head in 32 bit"
    else:
        logits = tokens * shape.vocabulary * SFT_LOGIT_BYTES
        remark = f"{tokens:,} tokens by {shape.vocabulary:,}"
    return [
        _activations(params, shape, tokens, kept(params, shape), params.sft.gradient_checkpointing),
        Part("logits", logits / GIB, remark),
        _restored(params, shape),
    ]


def _update_graphs(params: Params, shape: Shape, tokens: int, activations: float) -> list[Part]:
    """What the CUDA graphs of the update keep.

    These are the activations of the largest batch, beside which the first batch of another size is computed without a
    graph; the states of a batch in 32 bit, with their gradient; and the gradients of all weights in one place, with a
    copy of them if several batches are accumulated.  The graphs themselves are not counted.
    """
    if not params.train.cuda_graphs:
        return []
    trained, size = trained_weights(params, shape)
    copies = 1 + (params.train.gradient_accumulation_steps > 1)
    gib = activations + (copies * trained * size + 2 * tokens * shape.hidden * 4) / GIB
    return [Part("update's graphs", gib, f"activations again, gradients of {trained:,} weights in a fixed place")]


def _values(params: Params, shape: Shape) -> list[Part]:
    """The value head of PPO, its gradient and moments, and the states that it reads in 32 bit, with their gradient."""
    if not METHODS[params.method].has_values:
        return []
    states = _completions(params) * params.train.max_completion_length
    size = 4 * 4 * (shape.hidden + 1) + VALUE_STATE_BYTES * states * shape.hidden
    return [Part("values", size / GIB, f"the states of {states:,} tokens in 32 bit, and the head that reads them")]


def _activations(
    params: Params, shape: Shape, tokens: int, layer_bytes: float, checkpointing: bool, offloaded: bool = False
) -> Part:
    """What the forward pass keeps for the backward pass, `layer_bytes` per token and layer, and their gradients."""
    layer = tokens * layer_bytes
    if checkpointing:
        # Only each layer's input is kept; the backward pass recomputes one layer at a time.
        inputs = 0 if offloaded else shape.layers * tokens * shape.hidden * computed_bytes(params)
        size, remark = inputs + layer, f"{tokens:,} tokens, recomputed layer by layer"
    else:
        size, remark = shape.layers * layer, f"{tokens:,} tokens in {shape.layers} layers"
    return Part("activations", (size + PASSING * layer) / GIB, remark)


def _restored(params: Params, shape: Shape) -> Part:
    """A quantised matrix is dequantised for each product; the largest one counts."""
    size = 0 if params.quantization is None else shape.hidden * shape.intermediate * computed_bytes(params)
    return Part("restored matrix", size / GIB, "dequantised from 4 bit for a product")


def kept(params: Params, shape: Shape, compiled: bool = False) -> float:
    """Bytes that a layer keeps per token for the backward pass."""
    if compiled:
        hidden, intermediate = KEPT_HIDDEN_COMPILED, KEPT_INTERMEDIATE_COMPILED
    else:
        hidden, intermediate = KEPT_HIDDEN if params.lora else KEPT_HIDDEN_TRAINED, KEPT_INTERMEDIATE
    in_16_bit = hidden * shape.hidden + intermediate * shape.intermediate + 2 * shape.cache_width
    return in_16_bit * computed_bytes(params) / 2


def _completions(params: Params) -> int:
    """Completions of a batch that go through the model: all, or those of the pairs."""
    train = params.train
    pairs = METHODS[params.method].learns_from_pairs
    return 2 * _groups(train) if pairs else train.per_device_train_batch_size


def _groups(train: Train) -> int:
    return train.per_device_train_batch_size // train.num_generations


def _batch_tokens(params: Params, prompt: int) -> int:
    """Tokens of a batch that go through the model."""
    completions = _completions(params)
    prompts = _groups(params.train) if params.train.share_prompts else completions
    return prompts * prompt + completions * params.train.max_completion_length


def _logits(params: Params) -> tuple[int, int]:
    """Tokens whose logits are in memory at the same time, and the bytes per logit."""
    completion_tokens = _completions(params) * params.train.max_completion_length
    if params.train.share_prompts:
        logit_bytes = COMPILED_LOGIT_BYTES if params.train.compile else CHUNK_LOGIT_BYTES
        return min(logprobs.CHUNK, completion_tokens), logit_bytes
    if params.backend == "unsloth":
        return -(-completion_tokens // UNSLOTH_CHUNKS), COMPILED_LOGIT_BYTES
    return completion_tokens, LOGIT_BYTES + (UNPLACED_LOGIT_BYTES if params.engine == "transformers" else 0)
