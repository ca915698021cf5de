"""The task GSM8K: extracting answers, prompting a model, rewarding completions, and generating similar problems.

Pure functions of texts.  May import only `files` and `records`, so that every other room can build on it.
"""
