"""Models: loading them safely, generating with transformers or vLLM, log-probabilities, and the GPU they run on.

May import `config`, `gsm8k`, `runtime` and `files`.
"""
