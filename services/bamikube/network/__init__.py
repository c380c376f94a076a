"""Pod networking: the CNI plugin and the routes between nodes."""
