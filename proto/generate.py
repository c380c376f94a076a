"""Generate services/bamikube/rpc/ from every .proto under proto/: the one command is ``make proto``.

``proto/`` is mounted into protoc's import path as ``bamikube/rpc``. A file ``proto/etcd/rpc.proto`` is therefore known
as ``bamikube/rpc/etcd/rpc.proto``, imports are written with that name, and the generated Python imports
(``from bamikube.rpc.etcd import ...``) are right as protoc writes them: nothing is patched afterwards. The name also
keeps our descriptors apart from those of any other library that carries a file called ``rpc.proto``.

Without arguments all folders are generated; with folder names (``python proto/generate.py etcd``) only those. Needs grpcio-tools (the ``dev`` extra).
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
OUT = ROOT / "services"


def main(folders: list[str]) -> int:
    """Run protoc over the chosen folders; its exit code is ours."""
    sources = sorted(
        path.relative_to(PROTO)
        for path in PROTO.rglob("*.proto")
        if not folders or path.relative_to(PROTO).parts[0] in folders
    )
    if not sources:
        print(f"no .proto files under {PROTO} for {folders or 'any folder'}", file=sys.stderr)
        return 1
    for source in sources:
        package = OUT / "bamikube" / "rpc" / source.parent
        package.mkdir(parents=True, exist_ok=True)
        marker = package / "__init__.py"
        if not marker.exists():
            marker.write_text('"""Generated from proto/ by proto/generate.py. Never edited by hand."""\n')
    return int(
        protoc.main(
            [
                "protoc",
                f"--proto_path=bamikube/rpc={PROTO}",
                f"--proto_path={files('grpc_tools') / '_proto'}",
                f"--python_out={OUT}",
                f"--pyi_out={OUT}",
                f"--grpc_python_out={OUT}",
                *(f"bamikube/rpc/{source.as_posix()}" for source in sources),
            ]
        )
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
