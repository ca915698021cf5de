"""Stage `base`: the model that training starts from.

With `model: scratch` the stage makes a small Qwen2 model and its tokenizer and pretrains it on the train split.
`results/base/model/` holds both, as safetensors and with a chat template, and `metrics.json` (`records.BaseMetrics`)
says how pretraining went.  Any other `model` is a name on the hub or a folder, and the stage only records it.

`results/base/base.json` names the model in both cases.
"""

from pathlib import Path

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import read_jsonl, sha256, write_json
from gsm8k_grpo.models.refusals import refuse_missing
from gsm8k_grpo.records import BaseModelFile
from gsm8k_grpo.stages.base.pretraining import pretrain


def base(extracted: Path, target: Path, params: Params) -> None:
    """Run the stage: write `base.json` into `target`, and with `model: scratch` also the model.

    If the model is in a folder, base.json also holds the digest of each of its files.  DVC and the checkpoints' hash
    include base.json, so that training starts again when the model has changed.

    Raises:
        PipelineError: if `model: scratch` has no problem with a number to learn from, or `model` is a path without a
            folder.
    """
    refuse_missing(params.model)
    if params.model == "scratch":
        pretrain(read_jsonl(extracted / "train.jsonl"), target, params)
    model = target / "model" if params.model == "scratch" else Path(params.model)
    digests = {path.name: sha256(path) for path in sorted(model.glob("*")) if path.is_file()}
    record: BaseModelFile = {"model": str(model), "sha256": digests}
    write_json(target / "base.json", record)
