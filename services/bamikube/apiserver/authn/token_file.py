"""Users by the static token file (``--token-auth-file``): ``token,user,uid,"group1,group2"``, one a line."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from bamikube.apiserver.authn.authenticator import Identified, authenticated
from bamikube.apiserver.identity import User


class TokenFileMethod:
    """Tokens read once, when the server starts, as in Kubernetes."""

    def __init__(self, users: dict[str, User]) -> None:
        self._users = {token: authenticated(user) for token, user in users.items()}

    @classmethod
    def read(cls, path: Path) -> TokenFileMethod:
        """Raises ValueError naming the file and line that is wrong."""
        with path.open(newline="", encoding="utf-8") as file:
            return cls(parse(file.read(), str(path)))

    async def authenticate_token(self, token: str, audiences: Sequence[str]) -> Identified | None:
        user = self._users.get(token)
        return None if user is None else Identified(user)


def parse(text: str, where: str) -> dict[str, User]:
    """Token -> user. ``where`` names the source in messages."""
    users: dict[str, User] = {}
    for number, row in enumerate(csv.reader(text.splitlines(), skipinitialspace=True), start=1):
        if not row or row[0].startswith("#"):
            continue
        if len(row) < 3:
            raise ValueError(
                f"{where} line {number}: expected at least 3 columns (token, user name, user uid), found {len(row)}"
            )
        token, name, uid = (column.strip() for column in row[:3])
        if not token:
            raise ValueError(f"{where} line {number}: the token is empty")
        groups = tuple(group.strip() for group in row[3].split(",") if group.strip()) if len(row) > 3 else ()
        users[token] = User(name, groups, uid)
    return users
