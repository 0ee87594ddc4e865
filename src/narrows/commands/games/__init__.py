"""The commands of two-player games, one Python function each."""
