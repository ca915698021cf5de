"""Whether training fits a GPU: the memory plan, from the model's shape and the configuration, and what to change.

Also checks that the model suits the configuration at all.  May import `models`, `config`, `files` and `records`, but no
stage, so that `plan` and `doctor` work before any stage has run.
"""
