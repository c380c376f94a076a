"""What is near to what on a machine: memory of one's own, and pods whose processors, memory and devices belong together."""
