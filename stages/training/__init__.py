"""Training and inference of models: targets, optimiser, loop, checkpoints."""
