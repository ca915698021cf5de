"""Does a training run fit the GPU?  The model's shape, the memory plan derived from it, and advice on what to change.

May import `models`, `config` and `files`; imports no stage.
"""
