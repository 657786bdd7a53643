"""Metrics, baselines and benchmark tables."""
