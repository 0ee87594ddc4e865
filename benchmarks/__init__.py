"""Every figure that the project states: `python -m benchmarks NAME`, one file a case, one row a measurement.

A case is a module of this folder with a `CASE` (see `benchmarks.harness.case`); its file name is its name on the command line.
It says what to measure, how, and how that is shown; what cases share is `harness`, what the pages say in words is `prose`. What
only a benchmark needs, a peer to compare with for instance, is imported inside `measure`, so that the pages can be generated
without it.
"""
