"""Load a model's tokenizer, and settle which tokens pad and end its completions."""

from typing import Any, cast

from jinja2.exceptions import TemplateError
from peft import PeftModel
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import CONFIG_NAME, GENERATION_CONFIG_NAME

from gsm8k_grpo.models import chat_templates
from gsm8k_grpo.models.loading.errors import not_loaded
from gsm8k_grpo.models.refusals import read_json, refuse_unfit

TOKENIZER_FILE = "tokenizer.json"


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """A model's tokenizer: it pads on the left, and its end token is the one that ends a turn of its chat template.

    It has two further attributes, lists of token ids:
        `end_tokens`: the ends of an answer: the end of a turn, the tokenizer's own end token, and those that
            generation_config.json names.
        `stop_tokens`: the tokens at which generation stops: these and the padding token.

    A padding token that is not a special token could be part of an answer, so the end token takes its place.

    Raises:
        PipelineError: if it does not exist, contains code, or has no usable chat template.
    """
    try:
        refuse_unfit(name)
        tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left", trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise not_loaded(name, error) from error
    chat_templates.settle(tokenizer, name)
    if not _special_token(name, tokenizer.pad_token):
        tokenizer.pad_token = tokenizer.eos_token
    ends = {tokenizer.eos_token_id, *_configured_ends(name)}
    tokenizer.eos_token = end_of_turn(tokenizer)
    ends |= {tokenizer.eos_token_id}
    tokenizer.end_tokens = sorted(ends - {None})
    tokenizer.stop_tokens = sorted({*tokenizer.end_tokens, tokenizer.pad_token_id})
    return tokenizer


def _special_token(name: str, token: str | None) -> bool:
    """Whether a token is special in the tokenizer's file; transformers itself makes any padding token special.

    A model without that file has an older format, whose padding tokens are special.
    """
    added = read_json(name, TOKENIZER_FILE).get("added_tokens")
    if token is None or added is None:
        return token is not None
    return any(entry["content"] == token and entry["special"] for entry in added)


def _configured_ends(name: str) -> list[int | None]:
    """The end tokens of generation_config.json; of config.json if there is no such file, as in transformers."""
    ends = (read_json(name, GENERATION_CONFIG_NAME) or read_json(name, CONFIG_NAME)).get("eos_token_id")
    return ends if isinstance(ends, list) else [ends]


def keep_end_tokens(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let generation_config.json name all end tokens wherever the model is saved."""
    cast(Any, model).generation_config.eos_token_id = cast(Any, tokenizer).end_tokens
    # If this differed, transformers would set it before training, and put the token into the list once more.
    model.config.eos_token_id = tokenizer.eos_token_id


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> str:
    """The special token with which the chat template ends an answer; without one, the tokenizer's own end token.

    The own end token of base models such as Qwen2.5 is another one, which they never generate with a chat template.
    """
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    try:
        text = cast(str, tokenizer.apply_chat_template(messages, tokenize=False))
    except TemplateError:  # some templates take only conversations that end with a turn of the user
        return tokenizer.eos_token
    after_answer = tokenizer(text.rpartition("!")[2], add_special_tokens=False)["input_ids"]
    added = tokenizer.added_tokens_decoder
    special = (added[token].content for token in after_answer if token in added and added[token].special)
    return next(special, tokenizer.eos_token)
