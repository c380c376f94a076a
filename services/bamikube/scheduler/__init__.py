"""The scheduler: picks a node for every pod, and can say why."""
