"""bamictl: the kubectl-compatible client."""
