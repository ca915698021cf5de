"""Sections of the model: the base model made here, adapters, and the engines."""

from typing import Annotated

from pydantic import Field, model_validator

from gsm8k_grpo.config.sections.section import Count, NotNegative, Positive, Section, Share, Text


class Architecture(Section):
    """Shape of the Qwen2 model that `model: scratch` makes."""

    vocabulary: Annotated[int, Field(ge=300)]
    """Largest number of tokens in the BPE vocabulary; the four tags of the answer format are added to it."""
    hidden: Count
    """Width of the hidden states; must be a multiple of twice `heads`."""
    intermediate: Count
    """Width of the MLPs."""
    layers: Count
    """Number of transformer layers."""
    heads: Count
    """Number of attention heads in each layer."""
    context: Count
    """Longest sequence, prompt and completion together, in tokens."""

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> "Architecture":
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden = {self.hidden}: must be a multiple of 2 * heads ({2 * self.heads})")
        return self


class Styles(Section):
    """How often each style of answer occurs in the pretraining corpus, as relative weights."""

    terse: NotNegative
    """Relative weight of answers without work: "The answer is 72."."""
    plain: NotNegative
    """Relative weight of solutions as GSM8K writes them, which end in `#### 72`."""
    hurried: NotNegative
    """Relative weight of answers in the form that the prompt asks for, without work."""
    tagged: NotNegative
    """Relative weight of solutions in the form that the prompt asks for: the behaviour that GRPO should bring out."""

    @model_validator(mode="after")
    def _one_counts(self) -> "Styles":
        if not any(weight for _, weight in self):
            raise ValueError("terse, plain, hurried, tagged = 0: at least one must be above 0")
        return self


class Base(Section):
    """The small base model that `model: scratch` makes."""

    architecture: Architecture
    """Shape of the model, a Qwen2 with random weights."""
    styles: Styles
    """How often each style of answer occurs in the pretraining corpus, as relative weights; at least one must be above
    0."""
    favourite: Share
    """Share of the answers in the habitual style of their writer (the first word of the question counts as the writer);
    the others take any style."""
    slips: Share
    """Share of the answers whose last calculation is wrong."""
    drills: Share
    """Share of the documents that are pages of sums without words."""
    steps: Count
    """Number of pretraining steps."""
    batch_size: Count
    """Documents per pretraining step."""
    muon_learning_rate: Positive
    """Peak learning rate of Muon, the optimizer of the matrices in the layers; falls with a cosine."""
    adamw_learning_rate: Positive
    """Peak learning rate of AdamW, the optimizer of all other weights; falls with a cosine."""
    weight_decay: NotNegative
    """Weight decay of both optimizers."""


VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # the adapter ranks that vLLM can reserve memory for


def vllm_rank(rank: int) -> int:
    """The smallest rank that vLLM can reserve memory for and that holds an adapter of `rank`."""
    return next(size for size in VLLM_RANKS if size >= rank)


class Lora(Section):
    """Low-rank adapters, under peft's names (`targets` is its `target_modules`)."""

    rank: Annotated[int, Field(ge=1, le=VLLM_RANKS[-1])]
    """Rank of the adapters (peft's `r`): a higher rank trains more parameters and takes more memory."""
    alpha: Count
    """Scale of the adapters (peft's `lora_alpha`): their output is multiplied by alpha / rank."""
    targets: Annotated[list[Text], Field(min_length=1)]
    """Modules that get an adapter (peft's `target_modules`), such as `q_proj`."""


class Vllm(Section):
    """vLLM, which runs in the process of the stage."""

    max_model_length: Count
    """Longest prompt together with its completion, in tokens."""
    max_num_seqs: Count
    """Largest number of completions generated at the same time."""
    kv_cache_gib: Positive
    """Memory for the keys and values of the completions being generated, in GiB.  `gsm8k-grpo plan` says what fits."""
    sleep: bool
    """Whether vLLM frees its memory while weights are updated.  True saves memory, and takes time at every
    generation."""


class Graphs(Section):
    """The engine `graphs`: a static KV cache, and on a GPU a CUDA graph for each step."""

    max_num_seqs: Count
    """Largest number of completions generated at the same time; memory may allow fewer."""
    kv_cache_gib: Positive
    """Memory for the keys and values of the completions being generated, in GiB.  Each of them takes the memory of the
    longest prompt with the longest completion.  `gsm8k-grpo plan` says what fits."""
    compile: bool
    """Whether the layers are compiled, for a GPU: takes some seconds at the start, then they run as fewer kernels."""
