"""Small pure functions on depth and cameras."""
