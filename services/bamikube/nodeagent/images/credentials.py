"""The node's own credentials: its docker configuration, then its credential providers."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from bamikube.kit.clock import Clock
from bamikube.nodeagent.images.accounts import Account
from bamikube.nodeagent.images.keyring import node_files, node_keyring
from bamikube.nodeagent.images.names import Name
from bamikube.nodeagent.images.plugins import Plugins, providers_in
from bamikube.nodeagent.images.puller import NodeCredentials
from bamikube.nodeagent.runtime.port import Credentials

log = logging.getLogger(__name__)


def node_credentials(root: Path, config: str, folder: str, clock: Clock) -> NodeCredentials:
    """What the puller asks. Raises ValueError for a configuration that cannot be used."""
    if bool(config) != bool(folder):
        raise ValueError(
            "--image-credential-provider-config and --image-credential-provider-bin-dir belong together: give both"
        )
    plugins = None
    if config:
        plugins = Plugins(providers_in(Path(config), Path(folder)), Path(folder), clock)
    files = node_files(root, Path(os.environ.get("HOME", "/root")))

    async def find(name: Name, account: Account | None) -> list[Credentials]:
        found: list[Credentials] = []
        try:
            found += node_keyring(files).lookup(name.repository)
        except ValueError as error:
            log.warning("the node's docker configuration is left out: %s", error)
        if plugins is not None:
            found += await plugins.credentials(name, account)
        return found

    return find
