"""Stage `train`: the training methods, the checkpoints that an interrupted run resumes from, and its history.

`grpo` and `sft` hold the trainers.  Imports no other stage.
"""
