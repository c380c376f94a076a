"""The machine below: folders, cgroups, mounts and logs, behind a port."""
