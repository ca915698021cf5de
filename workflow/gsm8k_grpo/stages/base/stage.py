"""Stage `base`: the model that GRPO starts from.

For `model: scratch` a Qwen2 model and a byte-level BPE tokenizer are made and pretrained here, on the corpus
of `corpus.py`; else `results/base/base.json` names the recipe's model.

A scratch base stands in `results/base/model/` as safetensors with its tokenizer and chat template;
`metrics.json` tells parameters, steps, loss and seconds.

Where there is a CUDA card it is used, as nothing else would have use for it: the weights are in 32 bit there too, what
is computed with them is in bfloat16.  A CPU computes in 32 bit, and the same seed gives the same bytes.
"""

from pathlib import Path

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import read_jsonl, sha256, write_json
from gsm8k_grpo.stages.base.pretraining import pretrain


def base(extracted: Path, target: Path, params: Params) -> None:
    """Run the stage: write `base.json`, which names the model, and with `model: scratch` the model itself.

    base.json also has the digest of each file of a model in a folder: what trains on it knows it by them.
    """
    if params.model == "scratch":
        pretrain(read_jsonl(extracted / "train.jsonl"), target, params)
    model = target / "model" if params.model == "scratch" else Path(params.model)
    digests = {path.name: sha256(path) for path in sorted(model.glob("*")) if path.is_file()}
    write_json(target / "base.json", {"model": str(model), "sha256": digests})
