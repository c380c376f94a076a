"""What runs containers: the port the node agent sees, and CRI behind it."""
