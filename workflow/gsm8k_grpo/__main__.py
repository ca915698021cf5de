"""Makes `python -m gsm8k_grpo` the same as the command `gsm8k-grpo`."""

from gsm8k_grpo.cli import main

if __name__ == "__main__":
    main()
