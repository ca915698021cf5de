"""The commands other than the stages, one module each, and `machine`, by which doctor describes the machine.

They inspect or pass on results, and compute nothing that a stage reads.  May import everything but `cli`.
"""
