"""Files of Debian packages, without installing anything.

A recipe names the packages it wants; what they depend on is followed through the package index, but only as far as
a container needs it: each recipe says where to stop (``perl``, ``debconf``, ... are for installing, not for running).
Packages are fetched with ``apt-get download`` into a cache, so apt checks their signatures and hashes as always,
and unpacked with ``dpkg-deb``.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

# Only for installing packages, never for running what is in them.
NOT_IN_CONTAINERS = frozenset(
    {"debconf", "debconf-2.0", "cdebconf", "perl", "perl-base", "lsb-base", "init-system-helpers", "adduser", "dpkg",
     "sysvinit-utils", "base-files", "base-passwd", "debianutils", "iproute2", "systemd", "libgcc-s1", "gcc-12-base",
     "media-types", "mime-support", "openssl", "libsystemd0", "krb5-locales"}
)  # fmt: skip


class AptError(RuntimeError):
    """apt or dpkg could not do what was asked; the message says what to try."""


@dataclass(frozen=True, slots=True)
class Package:
    name: str
    version: str
    depends: tuple[str, ...]  # the first alternative of each dependency


def _run(command: Sequence[str], cwd: Path | None = None, *, lenient: bool = False) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    except FileNotFoundError as error:
        raise AptError(
            f"{command[0]} is not here: images are made from Debian packages, on Debian or Ubuntu"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise AptError(
            f"{' '.join(command[:3])} took more than 300 s: is the package mirror reachable?"
        ) from error
    if done.returncode != 0 and not lenient:
        raise AptError(
            f"{' '.join(command[:4])}...: {done.stderr.strip()[-400:] or 'failed'}\n"
            "Try 'apt-get update', then again."
        )
    return done.stdout


def parse_index(text: str) -> dict[str, Package]:
    """Packages from the output of ``apt-cache show``; the first entry of a name is apt's candidate."""
    found: dict[str, Package] = {}
    for stanza in text.split("\n\n"):
        fields = dict(re.findall(r"^([A-Z][A-Za-z-]*): (.*)$", stanza, re.MULTILINE))
        if "Package" not in fields or fields["Package"] in found:
            continue
        depends: list[str] = []
        for clause in f"{fields.get('Pre-Depends', '')},{fields.get('Depends', '')}".split(","):
            first = clause.split("|")[0].split("(")[0].split(":")[0].strip()
            if first and first not in depends:
                depends.append(first)
        found[fields["Package"]] = Package(fields["Package"], fields.get("Version", ""), tuple(depends))
    return found


def closure(roots: Iterable[str], without: frozenset[str] = NOT_IN_CONTAINERS) -> list[Package]:
    """``roots`` and all they need at run time, in name order. Raises AptError for a root apt does not know.

    A dependency without an entry of its own is a virtual package (an ABI promise, a role); it brings no files.
    """
    asked = set(roots)
    known: dict[str, Package] = {}
    virtual: set[str] = set()
    wanted = set(asked)
    while missing := sorted(wanted - known.keys() - virtual):
        index = parse_index(_run(["apt-cache", "show", "--no-all-versions", *missing], lenient=True))
        for name in missing:
            if name not in index and name not in asked:
                virtual.add(name)
                continue
            if name not in index:
                raise AptError(f"package {name} is not in apt's lists. Run 'apt-get update', then again.")
            known[name] = index[name]
            wanted.update(dependency for dependency in index[name].depends if dependency not in without)
    return [known[name] for name in sorted(known)]


def fetch(packages: Iterable[Package], cache: Path) -> dict[str, Path]:
    """The ``.deb`` file of each package, downloaded unless it lies in ``cache`` already."""
    cache.mkdir(parents=True, exist_ok=True)
    files: dict[str, Path] = {}
    missing: list[Package] = []
    for package in packages:
        if found := _deb(package, cache):
            files[package.name] = found
        else:
            missing.append(package)
    if missing:
        with tempfile.TemporaryDirectory(dir=cache, prefix=".download-") as folder:
            Path(folder).chmod(0o755)
            names = [f"{package.name}={package.version}" for package in missing]
            _run(["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *names], Path(folder))
            for path in Path(folder).glob("*.deb"):
                path.replace(cache / path.name)
        for package in missing:
            found = _deb(package, cache)
            if found is None:
                raise AptError(f"apt-get download {package.name}={package.version} left no file in {cache}")
            files[package.name] = found
    return files


def _deb(package: Package, cache: Path) -> Path | None:
    version = package.version.replace(":", "%3a")
    return next(iter(sorted(cache.glob(f"{package.name}_{version}_*.deb"))), None)


def unpack(deb: Path, root: Path) -> None:
    """The files of one package under ``root``, as dpkg would place them; its scripts are not run."""
    root.mkdir(parents=True, exist_ok=True)
    _run(["dpkg-deb", "--extract", str(deb), str(root)])


def architecture() -> str:
    """Debian's name of this machine's architecture, the same as OCI's for the ones we build for."""
    return _run(["dpkg", "--print-architecture"]).strip()


def update() -> None:
    """Fetch the package lists: they are missing on a fresh machine, and old ones name files that are gone."""
    _run(["apt-get", "update", "-qq"])
