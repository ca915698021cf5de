# Until here `config` holds what --config gave; from here on it holds the whole, checked configuration.
import json
import shlex

from gsm8k_grpo import params
from gsm8k_grpo.files import PipelineError
from snakemake.exceptions import WorkflowError

OVERRIDES = " ".join(f"--set {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in config.items())

try:
    config = params.load(overrides=config).model_dump()
except PipelineError as error:
    raise WorkflowError(str(error)) from None

VARIANTS = list(config["variants"])
MODELS = ["base", *VARIANTS]
