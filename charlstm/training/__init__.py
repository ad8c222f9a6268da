"""The training run: one optimiser step after another, its schedule and its limits."""
