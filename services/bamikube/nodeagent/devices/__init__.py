"""Devices of the machine that plugins offer, and who was given which."""
