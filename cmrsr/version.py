"""The version that results name."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("cmrsr")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"
