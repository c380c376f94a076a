"""The node's HTTPS API: logs, exec, attach, port-forward, metrics."""
