"""The running process and its surroundings: signals, locks, GPUs, the working folder, progress, git, imports.

May import only `files`.
"""
