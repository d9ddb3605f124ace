"""What this machine has and may use: cores, memory, GPUs; who holds which GPU; how many runs fit at once. Needs no torch."""
