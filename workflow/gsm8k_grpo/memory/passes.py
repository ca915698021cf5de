"""The GPU memory that the forward and the backward pass of a batch take."""

from gsm8k_grpo.config.methods import METHODS
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Train
from gsm8k_grpo.memory.parts import GIB, Part, computed_bytes
from gsm8k_grpo.memory.shapes import Shape
from gsm8k_grpo.memory.weights import trained_weights
from gsm8k_grpo.models import logprobs

# Bytes that a layer keeps of each token for the backward pass, per unit of the hidden and of the intermediate size, if
# it computes in 16 bit; keys and values come on top.  tests/unit/memory/test_plan.py counts what PyTorch saves.
# Hidden: the inputs of two norms in 32 bit (8), the inputs of the projections (4), queries and attention's output (4),
# and, if all weights are trained, the outputs of the norms (4).  Intermediate: the gate, its activation, the up
# projection, and the product of the last two.
KEPT_HIDDEN = 16
KEPT_HIDDEN_TRAINED = 20
KEPT_INTERMEDIATE = 8
# Compiled layers recompute in the backward pass whatever needs no matrix product.
KEPT_HIDDEN_COMPILED = 12
KEPT_INTERMEDIATE_COMPILED = 6
# Gradients of a layer's activations in the backward pass, as a share of what the layer keeps.
PASSING = 0.5
# Bytes per logit at the peak of the backward pass.  TRL holds the logits in 32 bit, and the gradients through their two
# uses.  A chunk needs these together with the recomputed forward pass; if it is compiled, most are never written.
LOGIT_BYTES = 16
CHUNK_LOGIT_BYTES = 20
COMPILED_LOGIT_BYTES = 8
# After generation by transformers, PyTorch holds fragments that are too small for a tensor of logits.  Together they
# are about as large as the logits in 32 bit, as measured with the recipe rtx3080, with all weights trained and with
# adapters.
UNPLACED_LOGIT_BYTES = 4
# The same in supervised fine-tuning, for all tokens of a batch: the loss in 32 bit, and its gradient.
SFT_LOGIT_BYTES = 12
# TRL's chunked loss holds the logits of so many tokens at a time, and the head's weights in 32 bit and in 16 bit.
SFT_CHUNK = 256
HEAD_BYTES = 6
# Bytes per unit of a token's state, which PPO's value head reads in 32 bit, with its gradient.
VALUE_STATE_BYTES = 8
UNSLOTH_CHUNKS = 4  # parts into which Unsloth's loss splits a batch
# The tokens of a padded batch relative to those of the batch, where the update runs as CUDA graphs
# (stages.train.grpo.cuda_graphs.buckets).
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
    """The forward and backward pass of a batch of supervised fine-tuning, which need the logits of all its tokens."""
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

    - The activations of the largest batch.  The first batch of another size is computed without a graph, and needs its
      activations in addition.
    - The states of a batch in 32 bit, with their gradient.
    - The gradients of all weights in a fixed place, with a copy of them if several batches are accumulated.

    The graphs themselves are not counted.
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
    """What the forward pass keeps for the backward pass, `layer_bytes` per token and layer, and its gradients."""
    layer = tokens * layer_bytes
    if checkpointing:
        # Only each layer's input is kept; the backward pass recomputes one layer at a time.
        inputs = 0 if offloaded else shape.layers * tokens * shape.hidden * computed_bytes(params)
        size, remark = inputs + layer, f"{tokens:,} tokens, recomputed layer by layer"
    else:
        size, remark = shape.layers * layer, f"{tokens:,} tokens in {shape.layers} layers"
    return Part("activations", (size + PASSING * layer) / GIB, remark)


def _restored(params: Params, shape: Shape) -> Part:
    """The largest quantised matrix as dequantised: each one is dequantised for its product."""
    size = 0 if params.quantization is None else shape.hidden * shape.intermediate * computed_bytes(params)
    return Part("restored matrix", size / GIB, "dequantised from 4 bit for a product")


def kept(params: Params, shape: Shape, compiled: bool = False) -> float:
    """The bytes that a layer keeps per token for the backward pass."""
    if compiled:
        hidden, intermediate = KEPT_HIDDEN_COMPILED, KEPT_INTERMEDIATE_COMPILED
    else:
        hidden, intermediate = KEPT_HIDDEN if params.lora else KEPT_HIDDEN_TRAINED, KEPT_INTERMEDIATE
    in_16_bit = hidden * shape.hidden + intermediate * shape.intermediate + 2 * shape.cache_width
    return in_16_bit * computed_bytes(params) / 2


def _completions(params: Params) -> int:
    """The number of completions of a batch that go through the model: all, or those in pairs."""
    train = params.train
    pairs = METHODS[params.method].learns_from_pairs
    return 2 * _groups(train) if pairs else train.per_device_train_batch_size


def _groups(train: Train) -> int:
    return train.per_device_train_batch_size // train.num_generations


def _batch_tokens(params: Params, prompt: int) -> int:
    """The number of tokens of a batch that go through the model."""
    completions = _completions(params)
    prompts = _groups(params.train) if params.train.share_prompts else completions
    return prompts * prompt + completions * params.train.max_completion_length


def _logits(params: Params) -> tuple[int, int]:
    """The number of tokens whose logits are in memory at the same time, and the bytes per logit."""
    completion_tokens = _completions(params) * params.train.max_completion_length
    if params.train.share_prompts:
        logit_bytes = COMPILED_LOGIT_BYTES if params.train.compile else CHUNK_LOGIT_BYTES
        return min(logprobs.CHUNK, completion_tokens), logit_bytes
    if params.backend == "unsloth":
        return -(-completion_tokens // UNSLOTH_CHUNKS), COMPILED_LOGIT_BYTES
    return completion_tokens, LOGIT_BYTES + (UNPLACED_LOGIT_BYTES if params.engine == "transformers" else 0)
