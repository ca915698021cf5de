"""Stage `train`: the training methods, the checkpoints that an interrupted run resumes from, and its history.

`methods` has one object per training method; `grpo` and `sft` hold their trainers.  Imports no other stage.
"""
