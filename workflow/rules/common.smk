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
