"""Refuse a model by its files alone, before any of its weights are read.

Models from outside are not trusted: weights are read only from safetensors, and files that could make transformers run
a model's own code or unpickle a file are refused.  So is a folder that training can't start from: one that does not
exist, or that holds an adapter or quantised weights.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, cached_file

from gsm8k_grpo.files import PipelineError

CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
# Keys of a model's JSON files that name code, or a file with weights.
UNTRUSTED = {
    CONFIG: ("auto_map", "transformers_weights"),
    "tokenizer_config.json": ("auto_map",),
    ADAPTER_CONFIG: ("auto_mapping", "base_model_name_or_path"),
}
# Keys of config.json that say how weights are quantised; earlier versions of compressed-tensors use the second.
QUANTIZED = ("quantization_config", "compression_config")


def refuse_unfit(name: str) -> None:
    """Check the files of a model, in a folder or from the hub.

    Raises:
        PipelineError: if there is no such folder, or it is an adapter, holds quantised weights, or names code, or
            weights in another format or folder.
    """
    refuse_missing(name)
    _refuse_adapter(name)
    refuse_code_and_pickles(name)
    refuse_quantized(name, read_json(name, CONFIG))


def refuse_missing(name: str) -> None:
    """Refuse a path where there is no folder; a name that may be that of a model on the hub is not looked up.

    Raises:
        PipelineError: if it is a path and no folder.
    """
    if name.startswith("~"):
        raise PipelineError(f"model = {name}: ~ is not expanded; write the whole path, as {Path.home() / 'models'}")
    path = Path(name)
    if path.is_file():
        raise PipelineError(f"model = {name}: is a file; name the folder that holds it with config.json and tokenizer")
    # A name on the hub has at most one slash, and not at an end.
    is_path = name.startswith((".", "/")) or name.endswith("/") or name.count("/") > 1
    if is_path and not path.is_dir():
        raise PipelineError(
            f"model = {name}: no such folder; correct the path (it begins at {Path.cwd()}), or give a name on the hub"
        )


def no_folder(name: str) -> str:
    """The end of an error about a model that can't be read; a name such as `models/mine` may be meant as a folder."""
    return "" if Path(name).is_dir() else f", and there is no folder {Path.cwd() / name}"


def _refuse_adapter(name: str) -> None:
    adapter = read_json(name, ADAPTER_CONFIG)
    if adapter and not read_json(name, CONFIG):
        raise PipelineError(
            f"model = {name}: is an adapter for {adapter.get('base_model_name_or_path')}, not a model; set model to "
            "that base, or merge the adapter into it first (`gsm8k-grpo export --format merged` does that for a "
            "variant trained here)"
        )


def refuse_code_and_pickles(name: str) -> None:
    """Check the files that tell transformers what to load, in a folder or from the hub.

    Raises:
        PipelineError: if a file names code, or weights in another format or folder.
    """
    for file, keys in UNTRUSTED.items():
        for key in keys:
            if key in read_json(name, file):
                raise PipelineError(
                    f"model = {name}: {file} has the key {key}, which makes a model run its own code or load files of "
                    "its choice; give a model of an architecture that transformers knows, with adapters merged"
                )
    for file in sorted(indexed_files(name)):
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise PipelineError(
                f"model = {name}: {SAFE_WEIGHTS_INDEX_NAME} names {file}; weights are read only from safetensors files "
                "of the model's own folder"
            )


def refuse_quantized(name: str, config: Mapping[str, Any]) -> None:
    """Refuse quantised weights, which are noise if they are read as plain numbers, without their scales.

    Args:
        name: the model, for the message.
        config: the content of its config.json.

    Raises:
        PipelineError: naming the method of quantisation.
    """
    for section in (config, config.get("text_config") or {}):
        for key in QUANTIZED:
            if settings := section.get(key):
                raise PipelineError(
                    f"model = {name}: its weights are quantised ({_method(settings)}, {key} in {CONFIG}), and training "
                    "starts from weights that are not; take the unquantised model (quantization: 4bit with lora "
                    "quantises it here)"
                )


def _method(settings: Mapping[str, Any]) -> str:
    """The method of a quantisation; bitsandbytes did not name itself in earlier versions."""
    unnamed = "bitsandbytes" if {"load_in_4bit", "load_in_8bit"} & set(settings) else "by an unnamed method"
    return str(settings.get("quant_method") or unnamed)


def indexed_files(name: str) -> set[str]:
    """The files with a model's weights that its index names; empty without an index."""
    return set(read_json(name, SAFE_WEIGHTS_INDEX_NAME).get("weight_map", {}).values())


def read_json(name: str, file: str) -> dict[str, Any]:
    """A JSON file of a model; empty if the model has none of this name."""
    path = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
    return json.loads(Path(path).read_bytes()) if path else {}
