"""Authorization: may this user do that? Node rules first, then RBAC; nobody else's opinion counts."""

from bamikube.apiserver.authz.authorizer import Authorizer
from bamikube.apiserver.authz.denial import denied
from bamikube.apiserver.authz.verdict import Verdict

__all__ = ["Authorizer", "Verdict", "denied"]
