"""Users of a pod's own: which ids of the machine stand for those that a pod sees (KEP-127)."""
