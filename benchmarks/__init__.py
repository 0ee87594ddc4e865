"""Every figure that the project states: `python -m benchmarks NAME`, one file a case, one row a measurement.

A case is a module of this folder with a `CASE` (see `benchmarks.case`); its file name is its name on the command line. What
only a benchmark needs, a peer to compare with for instance, is imported inside `measure`, so that the pages can be generated
without it. Modules that are no case are named in `benchmarks.case.HARNESS` or begin with an underscore.
"""
