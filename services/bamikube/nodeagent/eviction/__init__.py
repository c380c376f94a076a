"""Ending pods before the node runs out: of memory, of disk, of inodes, of process ids."""
