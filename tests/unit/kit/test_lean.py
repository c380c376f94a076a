"""What a process of ours is spared when it imports aiohttp."""

import subprocess
import sys

import pytest

LOOK = """
import os, sys, importlib
before = dict(os.environ)
importlib.import_module(sys.argv[1])
assert dict(os.environ) == before
from aiohttp import connector
print(connector._SSL_CONTEXT_VERIFIED.cert_store_stats()["x509_ca"])
import ssl
assert ssl.get_default_verify_paths().openssl_cafile
"""


@pytest.mark.parametrize("service", ["nodeagent", "apiserver", "controllers"])
def test_no_service_reads_the_authorities_of_its_machine(service: str) -> None:
    command = [sys.executable, "-c", LOOK, f"bamikube.{service}.main"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "0\n"
