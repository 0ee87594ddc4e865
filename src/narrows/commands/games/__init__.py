"""What a user does with two-player games, one Python function each."""
