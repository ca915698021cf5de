"""Generation with a static KV cache and CUDA graphs, for the engine `graphs`.

Where the model is small, vLLM spends most of its time in Python: its scheduler and its output processor handle each
token of each completion.  Here one CUDA graph computes a step of all completions, and Python looks at the results only
after every eighth step.

    attention   writes keys and values into the cache, and attends to them
    sampling    a token and its log-probability from logits
    batch       the completions that are being decoded: their cache, their tokens, one step
    decoder     the loop: admits prompts, steps, collects what has ended
    check       whether all this is right for a model
"""
