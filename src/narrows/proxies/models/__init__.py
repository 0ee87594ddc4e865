"""The models that a fit compares, one file each, and what they share."""
