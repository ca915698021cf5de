"""Models: load them, generate with transformers, vLLM or CUDA graphs, compute log-probabilities, watch the GPU.

May import `config`, `gsm8k`, `runtime`, `files` and `records`.
"""
