"""Models: load them safely, generate with transformers or vLLM, compute log-probabilities, and watch the GPU.

May import `config`, `gsm8k`, `runtime`, `files` and `records`.
"""
