"""Probes: asking a container whether it started, lives and is ready."""
