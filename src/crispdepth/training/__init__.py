"""Fitting models: losses, schedules, checkpoints, the loop, one recipe per model."""
