"""The running process and its surroundings: signals, locks, the working folder, progress bars, git, the import closure.

May import `files` alone.
"""
