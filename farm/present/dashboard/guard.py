"""Who may talk to the dashboard, checked on every request, callbacks included.

On loopback: only requests that name this very address (a page elsewhere could make a browser call 127.0.0.1 under
another name, DNS rebinding), and no form or script of another origin. On any other address also a token: it comes once
as `?token=` and stays as a cookie that no script can read.

    guard(app.server, Guard(hosts=("127.0.0.1:8050", "localhost:8050"), token=None))
"""

import hmac
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from flask import Flask, Request, Response, request

COOKIE = "farm_token"
MOST_BYTES = 64 * 1024  # of a request: a callback's values are a few hundred bytes


@dataclass(frozen=True, slots=True)
class Guard:
    """`hosts` None: any name (the token decides); `token` None: none is asked for."""

    hosts: tuple[str, ...] | None
    token: str | None


def guard(server: Flask, rules: Guard, policy: str) -> None:
    """Put the checks before, and the policy behind, everything the server answers."""
    server.config["MAX_CONTENT_LENGTH"] = MOST_BYTES

    @server.before_request
    def check() -> Response | None:
        complaint = complaint_about(request, rules)
        if complaint is not None:
            return Response(complaint + "\n", status=403, mimetype="text/plain")
        return _keep_token(rules) if rules.token and "token" in request.args else None

    @server.after_request
    def harden(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Frame-Options"] = "DENY"
        return response


def complaint_about(asked: Request, rules: Guard) -> str | None:
    """One sentence when the request is refused."""
    if rules.hosts is not None and asked.host not in rules.hosts:
        return f"This dashboard answers at {rules.hosts[0]} only."
    origin = asked.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != asked.host:
        return "Requests from another page are refused."
    given = asked.args.get("token") or asked.cookies.get(COOKIE) or ""
    if rules.token is not None and not hmac.compare_digest(given.encode(), rules.token.encode()):
        return "This dashboard needs its token: open the address that `farm dashboard` printed."
    return None


def _keep_token(rules: Guard) -> Response:
    """Off the address bar and out of the history, into a cookie."""
    rest = urlencode({name: value for name, value in request.args.items() if name != "token"})
    here = "/" + request.path.lstrip("/")  # two slashes would lead to another host
    answer = Response(status=302, headers={"Location": f"{here}?{rest}" if rest else here})
    answer.set_cookie(COOKIE, rules.token or "", httponly=True, samesite="Strict")
    return answer
