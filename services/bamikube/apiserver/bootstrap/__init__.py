"""What every cluster has from its first second: namespaces, roles and bindings, priority classes."""

from bamikube.apiserver.bootstrap.loop import Bootstrap

__all__ = ["Bootstrap"]
