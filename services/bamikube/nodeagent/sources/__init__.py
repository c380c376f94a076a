"""Where pods come from that no API server has sent: manifests on the node, and their mirrors in the API."""
