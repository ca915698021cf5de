"""The commands other than the stages, one module each, with `machine` for what doctor says of the machine.

They inspect or pass on results, and compute none that a stage reads.  May import everything but `cli`.
"""
