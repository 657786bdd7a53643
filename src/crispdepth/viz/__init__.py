"""Values to pictures: arrays and strings, no files."""
