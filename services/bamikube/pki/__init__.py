"""Keys, certificates, kubeconfig files and token signing."""
