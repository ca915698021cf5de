"""The commands beside the stages: ask, checkpoints, doctor, export, plan, summary, sync, track, view.

They read results or the machine, and compute none of the results.  May import everything but `cli`.
"""
