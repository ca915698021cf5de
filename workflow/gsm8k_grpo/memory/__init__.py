"""Will it fit?  The memory plan of a training run, from the model's shape and the configuration, and advice.

May import `models`, `config` and `files`; imports no stage.
"""
