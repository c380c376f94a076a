"""OpenAPI: the API describing itself, for ``kubectl explain``, ``apply`` and client generators."""

from bamikube.apiserver.openapi.routes import OpenApi

__all__ = ["OpenApi"]
