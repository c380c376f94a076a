"""Ending pods in order before the machine goes down."""
