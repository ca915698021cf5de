"""Stage `train`: the training methods, checkpoints that a run resumes from, and the history of its steps."""
