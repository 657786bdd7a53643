"""Answers to a user's question, in memory: arrays in, arrays out, no files."""
