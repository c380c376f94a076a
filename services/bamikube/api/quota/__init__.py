"""Resource quotas: what objects use, which of them a quota counts, and whether there is room for one more."""

from bamikube.api.quota.judging import Charge, charge, counted_kinds, is_settled, pretty, recount, settled
from bamikube.api.quota.scopes import matches
from bamikube.api.quota.usage import Key, tracks, usage

__all__ = [
    "Charge",
    "Key",
    "charge",
    "counted_kinds",
    "is_settled",
    "matches",
    "pretty",
    "recount",
    "settled",
    "tracks",
    "usage",
]
