"""The controllers: one file each, a pure plan() and a thin apply()."""
