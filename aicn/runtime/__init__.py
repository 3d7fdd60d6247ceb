"""Local models, run as child processes."""
