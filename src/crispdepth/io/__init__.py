"""Files to values and values to files; every foreign convention ends here."""
