"""What all benchmarks share: rows, tables, pages and pictures, intervals, processes, turns, and where they may write."""
