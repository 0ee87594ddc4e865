"""What `benchmarks.tables` takes to measure: settings, real tables, the commands in a process of their own, and rivals."""
