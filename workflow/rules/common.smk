# Until here `config` holds what --config gave; from here on it holds the whole, checked configuration.
import json
import os

from gsm8k_grpo import layers, params
from gsm8k_grpo.files import PipelineError
from snakemake.exceptions import WorkflowError

overrides = layers.typed(config)
# The stages read it from their environment: in their command line it would rerun all of them for any change.
os.environ[layers.ENVIRONMENT] = json.dumps(overrides)

try:
    config = params.load(overrides=overrides).model_dump()
except PipelineError as error:
    raise WorkflowError(str(error)) from None

VARIANTS = list(config["variants"])
MODELS = ["base", *VARIANTS]


def local_files(wildcards):
    """The files of source: local, so that a change in them is seen."""
    if config["source"] != "local":
        return []
    return expand("{folder}/{split}.jsonl", folder=config["path"], split=["train", "test"])


def weights(wildcards):
    """What must be there before a model can be evaluated."""
    if wildcards.model == "base":
        return "results/base/base.json"
    return f"results/train/{wildcards.model}/metrics.json"
