"""Models: load them safely, generate with transformers or vLLM, compute log-probabilities, and measure the GPU.

May import `config`, `gsm8k`, `runtime` and `files`.
"""
