"""The parts of the benchmark `games`: what is solved, timed and trained, and how the results are told."""
