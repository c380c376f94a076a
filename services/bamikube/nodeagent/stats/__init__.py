"""What pods and the node use: read from cgroups, /proc and file systems, told as summary and as metrics."""
