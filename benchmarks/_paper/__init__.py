"""The biological tasks of the paper's experiments."""
