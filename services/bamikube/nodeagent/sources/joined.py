"""Several sources of static pods as one: what each said last, together."""

from __future__ import annotations

import logging
from collections.abc import Callable

from bamikube.nodeagent.pod.facts import JSON

log = logging.getLogger(__name__)


class Joined:
    """``keep(pods, whole)`` is called whenever a source has something new; ``whole`` once all of them have spoken."""

    def __init__(self, names: tuple[str, ...], keep: Callable[[list[JSON], bool], None]) -> None:
        self._said: dict[str, list[JSON] | None] = dict.fromkeys(names)
        self._keep = keep

    def take(self, name: str) -> Callable[[list[JSON]], None]:
        """What the source of that name calls with all its pods."""

        def said(pods: list[JSON]) -> None:
            self._said[name] = pods
            found: dict[tuple[str, str], JSON] = {}
            for pod in (pod for pods in self._said.values() for pod in pods or ()):
                key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
                if found.setdefault(key, pod) is not pod:
                    log.error("static pod %s/%s is described twice; that of %s is left out", *key, name)
            self._keep(list(found.values()), None not in self._said.values())

        return said
