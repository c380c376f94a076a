"""``bamikube-apiserver``: the API server as a process, with its sockets, certificates and etcd."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import ssl
from collections.abc import Sequence

from bamikube.apiserver.advertised import advertised
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.server import ApiServer
from bamikube.kit.service import run_main
from bamikube.kit.tasks import Tasks
from bamikube.kit.tlsdoor import server_settings
from bamikube.kit.world import World

log = logging.getLogger(__name__)

_NO_CHECK_TIME = ssl.VerifyFlags(
    0x200000
)  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which the ssl module does not name


def server_context(options: ApiServerOptions) -> ssl.SSLContext | None:
    """TLS of the API: clients may show a certificate, and need not. Raises ValueError naming the flag at fault."""
    if not options.tls_cert_file:
        if options.bind_address not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError(
                f"--tls-cert-file is not given: plain HTTP is served on loopback only, not on {options.bind_address}; "
                "give --tls-cert-file and --tls-private-key-file, or --bind-address=127.0.0.1"
            )
        return None
    context = server_settings()
    try:
        context.load_cert_chain(options.tls_cert_file, options.tls_private_key_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(
            f"--tls-cert-file {options.tls_cert_file} with --tls-private-key-file {options.tls_private_key_file}: {error}"
        ) from None
    for flag, file in (
        ("--client-ca-file", options.client_ca_file),
        ("--requestheader-client-ca-file", options.requestheader_client_ca_file),
    ):
        if file:
            try:
                context.load_verify_locations(file)
            except (OSError, ssl.SSLError) as error:
                raise ValueError(f"{flag} {file}: {error}") from None
            context.verify_mode = ssl.CERT_OPTIONAL
            # Authentication looks at the time, for each request. Whoever comes with a certificate that has expired is
            # answered 401 that way, where TLS would only hang up.
            context.verify_flags |= _NO_CHECK_TIME
    return context


class ApiServerProcess:
    """The server with its edges: etcd below, HTTPS above."""

    name = "apiserver"

    def __init__(self, options: ApiServerOptions, world: World) -> None:
        from bamikube.store.etcd import EtcdStore

        self._context = server_context(options)
        if not options.advertise_address and options.secure_port:
            options = options.model_copy(update={"advertise_address": advertised(options.bind_address)})
        self._store = EtcdStore(
            list(options.etcd_servers),
            ca=options.etcd_cafile or None,
            cert=options.etcd_certfile or None,
            key=options.etcd_keyfile or None,
            world=world,
            prefix=options.etcd_prefix.encode(),
        )
        self.server = ApiServer(self._store, options, world, hostname=socket.gethostname())
        self.ready = self.server.ready
        self._options = options

    async def run(self) -> None:
        """Serve until cancelled; then end watches, finish what runs, and close."""
        from bamikube.kit.httpserver import serve

        options = self._options
        tasks = Tasks("apiserver-edge")
        edge = await serve(
            self.server.handle,
            host=options.bind_address,
            port=options.secure_port,
            ssl=self._context,
            max_body=options.max_request_body_bytes,
            tasks=tasks,
            quick=self.server.quick,
        )
        log.info(
            "serving on %s://%s:%d", "https" if self._context else "http", options.bind_address, edge.port
        )
        frozen = tasks.spawn(self._freeze(), "freeze")
        try:
            await self.server.run()
        finally:
            frozen.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await edge.close()
            await tasks.close()
            await self._store.close()

    async def _freeze(self) -> None:
        """What was built at the start stays for ever: the garbage collector need not look at it again."""
        await self.ready.wait()
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)


def main(argv: Sequence[str] | None = None) -> int:
    """The process. Returns its exit status."""
    return run_main("apiserver", ApiServerProcess, ApiServerOptions, argv)


if __name__ == "__main__":
    raise SystemExit(main())
