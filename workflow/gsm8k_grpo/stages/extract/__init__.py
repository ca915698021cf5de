"""Stage `extract`: gold answers, prompts, a validation split, the further test sets, and what they share with train."""
