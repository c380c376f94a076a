"""Processors of a pod's own: which ones, to whom, and how containers come to run on them."""
