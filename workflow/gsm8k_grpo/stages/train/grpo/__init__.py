"""GRPO: TRL's trainer made resumable, packed batches, and rollouts by vLLM or Unsloth."""
