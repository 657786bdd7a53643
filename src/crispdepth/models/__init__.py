"""What can complete a layer."""
