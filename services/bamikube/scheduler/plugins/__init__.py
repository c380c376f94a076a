"""The plugins: each one asks its own question about a pod and all nodes."""
