"""Volumes: what a pod mounts, where it comes from, how it is written."""
