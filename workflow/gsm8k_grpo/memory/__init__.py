"""Will it fit?  The memory plan of a training run, from the model's shape and the configuration, and what to change.

Also whether the model suits the configuration at all.  May import `models`, `config`, `files` and `records`, and no
stage, so that `plan` and `doctor` work before any stage.
"""
