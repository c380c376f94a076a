"""Services to netfilter tables."""
