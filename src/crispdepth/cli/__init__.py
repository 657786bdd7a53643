"""The command line: parse, read files, call a task, write files."""
