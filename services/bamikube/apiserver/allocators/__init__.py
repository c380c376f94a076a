"""Addresses and ports that services are given: each to one service, over restarts and between API servers."""

from bamikube.apiserver.allocators.pool import Pool
from bamikube.apiserver.allocators.repair import repair
from bamikube.apiserver.allocators.services import ServiceAllocator

__all__ = ["Pool", "ServiceAllocator", "repair"]
