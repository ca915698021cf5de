"""Online DPO: the best and the worst completion of a prompt make a pair, and the update prefers the better one."""
