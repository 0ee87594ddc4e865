"""Parts of the benchmark of variational inequalities: `python -m benchmarks vi`."""
