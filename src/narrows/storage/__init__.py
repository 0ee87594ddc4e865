"""A run's memory on the disk: arrays with their checksums, checkpoints, and the archive of what it met."""
