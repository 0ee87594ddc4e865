"""Models of a table of measurements: fitted with an honest account of their quality, and rewards that a job names."""

from narrows.proxies.base import AbstractProxy as AbstractProxy
from narrows.proxies.reward import Proxy

__all__ = ["Proxy"]
