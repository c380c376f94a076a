"""Authentication: from a request's credentials to a :class:`~bamikube.apiserver.identity.User`."""

from bamikube.apiserver.authn.authenticator import Authenticator, BadCredentials, Identified, Method
from bamikube.apiserver.authn.impersonation import impersonate

__all__ = ["Authenticator", "BadCredentials", "Identified", "Method", "impersonate"]
