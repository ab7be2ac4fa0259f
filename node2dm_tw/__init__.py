"""A push gateway: UDP datagrams in, Android push notifications out."""

from importlib.metadata import version

__version__ = version("node2dm_tw")
