"""Doctests of rooms whose libraries are extras are collected only where those are installed."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["narrows/tuning/*"]
