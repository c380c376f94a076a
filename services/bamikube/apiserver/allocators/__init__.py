"""Addresses and ports that services are given: each to one service, over restarts and between API servers."""

from bamikube.apiserver.allocators.repair import Repair
from bamikube.apiserver.allocators.services import ServiceAllocator

__all__ = ["Repair", "ServiceAllocator"]
