"""The lab's container images: a store of OCI content, recipes that fill it, archives that are loaded into it."""
