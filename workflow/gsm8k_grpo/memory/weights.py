"""The memory for weights in training: the weights, their copies, their gradients and the optimizer's state."""

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.memory.parts import GIB, Part, computed_bytes, stored_bytes
from gsm8k_grpo.memory.shapes import Shape

# Bytes of a weight in NF4 with doubly quantised scales: half a byte, plus a scale of one byte per 64 weights, plus four
# bytes per 256 of these scales.
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# AdamW keeps two moments per weight: in 8 bit, a byte each, with a scale of four bytes per 256 moments.  transformers
# then keeps the moments of the embeddings in 32 bit.
ADAMW_8BIT_BYTES = 2 * (1 + 4 / 256)
ADAMW_EMBEDDING_BYTES = 2 * 4
# The number of gradients that GPUs which train together exchange at once: 256 MiB in 32 bit.
BUCKET = 2**26


def of_model(params: Params, shape: Shape, beta: float) -> list[Part]:
    """The weights and their copies: one in the type of computation, and one for the KL term."""
    size, gpus = stored_bytes(params), _dividing_gpus(params)
    unquantized = shape.parameters * size
    weights: float = unquantized
    dtype: str = "float32" if params.precision == "mixed" else params.precision
    if params.quantization:
        # Embeddings, head and norms are not quantised.
        weights = shape.projected * NF4_BYTES + (shape.parameters - shape.projected) * size
        dtype = f"4 bit, {shape.parameters - shape.projected:,} of them in {params.precision}"
    # Autocast keeps a copy of trained weights through the forward and the backward pass; divided weights are gathered
    # in the type of the computation.
    has_copy = params.precision == "mixed" and params.lora is None and gpus == 1
    # With adapters the reference is the same model with its adapters disabled.
    has_reference = beta > 0 and params.lora is None
    divided = f", divided between {gpus} GPUs" if gpus > 1 else ""
    return [
        Part("weights", weights / gpus / GIB, f"{shape.parameters:,} in {dtype}{divided}"),
        Part("copy in bfloat16", has_copy * shape.parameters * 2 / GIB, "precision: mixed"),
        Part("reference model", has_reference * unquantized / gpus / GIB, f"for the distance from the start{divided}"),
    ]


def of_training(params: Params, shape: Shape, optim: str) -> list[Part]:
    """What training keeps for trained weights: adapters are in 32 bit, all others in the model's precision."""
    trained, size = trained_weights(params, shape)
    gpus = _dividing_gpus(params)
    # A new gradient exists beside the accumulated one.  The largest by far are those of the head and the embeddings,
    # which are equally large.
    head = 0 if params.lora else shape.vocabulary * shape.hidden
    remark = f"of {trained:,} weights{', the head twice' * bool(head)}"
    return [
        Part("adapter", trained * size / GIB if params.lora else 0.0, f"{trained:,} in float32"),
        Part("gradients", (trained + head) * size / gpus / GIB, remark),
        _optimizer(optim, trained, head, size, gpus),
        Part("averaging", _bucket(params, trained, head) * size / GIB, f"gradients between {params.gpus} GPUs"),
        *_gathered(params, shape),
    ]


def _dividing_gpus(params: Params) -> int:
    """The number of GPUs that divide the weights between them; 1 if each GPU has all weights."""
    return params.gpus if params.shard_weights else 1


def trained_weights(params: Params, shape: Shape) -> tuple[int, int]:
    """The number of trained weights, and the bytes of each."""
    return (shape.adapter(params.lora), 4) if params.lora else (shape.parameters, stored_bytes(params))


def _bucket(params: Params, trained: int, largest: int) -> int:
    """The number of gradients that are copied at once to be averaged; a single tensor is never split."""
    return min(trained, max(BUCKET, largest)) if params.gpus > 1 and not params.shard_weights else 0


def _optimizer(optim: str, trained: int, embeddings: int, size: int, gpus: int) -> Part:
    """Two moments per trained weight: in the weight's type, or in 8 bit except for the embeddings."""
    if not optim.endswith("8bit"):
        return Part("optimizer", trained * 2 * size / gpus / GIB, optim)
    moments = (trained - embeddings) * ADAMW_8BIT_BYTES + embeddings * ADAMW_EMBEDDING_BYTES
    remark = f"{optim}, {embeddings:,} embeddings in 32 bit" if embeddings else optim
    return Part("optimizer", moments / GIB, remark)


def _gathered(params: Params, shape: Shape) -> list[Part]:
    """The part of divided weights and of their gradients that is whole at the same time.

    In a pass these are the weights outside of the layers and those of two layers: the one that computes, and the next,
    which is gathered meanwhile.  While transformers generates, all weights are whole.  The gradients of one layer and
    of the weights outside of the layers are whole, with a copy in 32 bit for averaging.
    """
    if _dividing_gpus(params) == 1:
        return []
    size, layer = computed_bytes(params), shape.projected / shape.layers
    outside = shape.parameters - shape.projected
    weights: float = shape.parameters if params.engine == "transformers" else outside + 2 * layer
    return [
        Part("gathered weights", weights * size / GIB, f"{int(weights):,} whole at a time"),
        Part("gathered gradients", (outside + layer) * (size + 4) / GIB, f"of {int(outside + layer):,} weights"),
    ]
