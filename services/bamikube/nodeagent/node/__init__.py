"""The Node object: registration, lease, status."""
