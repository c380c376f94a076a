"""The node agent: the kubelet's job on containerd."""
