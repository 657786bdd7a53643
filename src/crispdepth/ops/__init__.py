"""Heavy array operators."""
