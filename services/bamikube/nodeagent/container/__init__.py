"""From a pod's spec to the configuration of one container."""
