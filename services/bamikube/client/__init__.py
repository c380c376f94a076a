"""Everybody else's only way to state: API client, informers, leader election, events."""
