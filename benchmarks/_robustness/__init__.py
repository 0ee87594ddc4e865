"""The parts of the benchmark `robustness`: tasks, wrong proxies, methods, their training and choice, and how it is told."""
