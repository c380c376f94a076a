"""The node agent's configuration file: a KubeletConfiguration, in the field names that clusters' owners know."""
