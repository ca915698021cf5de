"""PPO: a value head estimates the reward to come at each token, and the advantages are relative to it."""
