"""Parts of the benchmark of tuning: texts, variants, costs, accuracy, tables."""
