"""Which objects the words behind a verb mean: ``pods``, ``pod web db``, ``deploy/web svc/web``, ``po,svc``, ``all``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bamikube.api.resources import Resource
from bamikube.cli.errors import CliError, usage
from bamikube.cli.resources import Catalogue

Selected = tuple[Resource, str]  # the name is empty for all objects of the resource


def select(catalogue: Catalogue, words: Sequence[str]) -> list[Selected]:
    """Resources and names. Raises :class:`CliError` when the words make no sense."""
    if not words:
        raise usage('You must specify the type of resource to get. Use "bamictl api-resources" for a list.')
    if any("/" in word for word in words):
        found: list[Selected] = []
        for word in words:
            kind, slash, name = word.partition("/")
            if not slash or not kind or not name or "/" in name:
                raise usage(
                    "there is no need to specify a resource type as a separate argument when passing arguments in "
                    "resource/name form (e.g. 'bamictl get resource/<resource_name>' instead of "
                    "'bamictl get resource resource/<resource_name>'"
                )
            found += [
                (resource, name) for kind_word in kind.split(",") for resource in catalogue.find(kind_word)
            ]
        return found
    resources = [resource for word in words[0].split(",") if word for resource in catalogue.find(word)]
    names = list(words[1:]) or [""]
    return [(resource, name) for resource in resources for name in names]


def one(catalogue: Catalogue, words: Sequence[str], default: str = "pods") -> Selected:
    """One object, of the ``default`` type when only a name is given."""
    words = [words[0] if "/" in words[0] else f"{default}/{words[0]}"] if len(words) == 1 else list(words)
    found = select(catalogue, words)
    if len(found) != 1 or not found[0][1]:
        raise usage("expected one object, as NAME or TYPE/NAME")
    return found[0]


def manifests(files: Sequence[str], recursive: bool = False) -> list[dict[str, Any]]:
    """The objects in files, folders (``.yaml .yml .json``) and standard input (``-``); lists are unpacked."""
    found: list[dict[str, Any]] = []
    for name in files:
        if name.startswith(("http://", "https://")):
            raise usage(f"{name}: manifests are read from files; fetch it first")
        if name == "-":
            found += _documents(sys.stdin.read(), "STDIN")
            continue
        path = Path(name)
        if not path.exists():
            raise CliError(f'error: the path "{name}" does not exist')
        inside = path.rglob("*") if recursive else path.glob("*")
        kinds = (".yaml", ".yml", ".json")
        paths = (
            sorted(one for one in inside if one.suffix in kinds and one.is_file())
            if path.is_dir()
            else [path]
        )
        for one_path in paths:
            found += _documents(one_path.read_text(), str(one_path))
    if not found:
        raise CliError("error: no objects passed")
    return found


def _documents(text: str, source: str) -> list[dict[str, Any]]:
    import yaml

    try:
        if source.endswith(".json"):
            documents = [json.loads(text)]
        else:
            documents = list(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except (ValueError, yaml.YAMLError) as error:
        raise CliError(f"error: error parsing {source}: {error}") from None
    found: list[dict[str, Any]] = []
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict):
            raise CliError(f"error: error parsing {source}: a manifest must be an object")
        if str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
            found += document["items"]
            continue
        for needed in ("apiVersion", "kind"):
            if not document.get(needed):
                raise CliError(f'error: error validating "{source}": error validating data: {needed} not set')
        found.append(document)
    return found
