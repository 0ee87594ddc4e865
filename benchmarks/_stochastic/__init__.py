"""The parts of the benchmark `stochastic`: worlds, methods, their training, and how the results are told."""
