"""The server: on loopback unless told otherwise, and then only with a token.

serve(make_app(library, "en"), Address("127.0.0.1", 8050, token=None), print)
"""

import ipaddress
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dash import Dash
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from farm.errors import FarmError
from farm.model_ref import parse_model
from farm.present.dashboard.app import make_app
from farm.present.dashboard.choices import OFFERED
from farm.present.dashboard.guard import Guard, guard
from farm.present.dashboard.launching import Launcher
from farm.present.dashboard.library import Library
from farm.present.dashboard.settings import Settings

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. `token` is None on loopback unless one was asked for."""

    host: str
    port: int
    token: str | None

    @property
    def url(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{shown}:{self.port}/" + (f"?token={self.token}" if self.token else "")


def address_of(host: str, port: int, token: str | None) -> Address:
    """Anything but loopback gets a token, made here if none was given. Raises FarmError for a weak one."""
    if token is not None and len(token) < 16:
        raise FarmError("--token: shorter than 16 characters can be guessed; leave it out and one is made")
    return Address(host, port, token or (None if is_loopback(host) else secrets.token_urlsafe(24)))


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def open_dashboard(
    home: Path, address: Address, models: Sequence[str], pool: str, language: str, tell: Callable[[Address], None]
) -> None:
    """Everything that `farm dashboard` needs; returns when it is interrupted. Raises FarmError."""
    library = Library(home)
    offered = tuple(dict.fromkeys((*(str(parse_model(model, "--model")) for model in models), *OFFERED)))
    serve(make_app(Settings(library, Launcher(library, pool, "auto"), offered, language)), address, tell)


def serve(app: Dash, address: Address, tell: Callable[[Address], None]) -> None:
    """Answer until interrupted; `tell` gets the address once it is open. Raises FarmError when it cannot be had."""
    server = open_server(app, address.host, address.port)
    address = Address(address.host, server.port, address.token)
    guard(app.server, _rules(address), policy(app))
    tell(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


def open_server(app: Dash, host: str, port: int) -> BaseWSGIServer:
    """Bound and ready; the socket is opened here because werkzeug leaves the process when a port is taken."""
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.create_server(place[:2], family=family)
    except OSError as error:
        raise FarmError(f"{host}:{port} cannot be opened ({error.strerror}); choose another --host or --port") from None
    with bound:  # the server has its own copy of the descriptor
        return make_server(host, port, app.server, threaded=True, request_handler=_Quiet, fd=bound.fileno())


def policy(app: Dash) -> str:
    """The browser itself refuses any request that would leave this server."""
    scripts = " ".join(app.csp_hashes())
    return (
        f"default-src 'self'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'"
    )


def _rules(address: Address) -> Guard:
    if not is_loopback(address.host):
        return Guard(None, address.token)
    return Guard(tuple(f"{name}:{address.port}" for name in (address.host, *LOOPBACK_NAMES)), address.token)


class _Quiet(WSGIRequestHandler):
    """No line a request: a page asks every second."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None: ...
