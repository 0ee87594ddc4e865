"""The sequence tasks of the TGM paper (arXiv:2506.17007): their data, the encoder fitted to them, and stand-ins."""
