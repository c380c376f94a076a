"""bamikube: clusters on one machine."""
