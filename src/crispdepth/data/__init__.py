"""Samples and datasets for training and benchmarks."""
