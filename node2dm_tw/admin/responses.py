"""What the answers of the web port have in common: their headers, and refusals."""

from http import HTTPStatus

from twisted.web.http import Request

from node2dm_tw.core.web import WebResponse

SECURITY = {
    b"Content-Security-Policy": b"default-src 'none'; script-src 'self'; style-src 'self';"
    b" img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    b" frame-ancestors 'none'",
    b"X-Content-Type-Options": b"nosniff",
    b"Referrer-Policy": b"no-referrer",
    b"Cross-Origin-Resource-Policy": b"same-origin",
    b"Cache-Control": b"no-store",
}
"""Headers of every answer."""

NO_BODY = WebResponse(b"the request has a body: expected none here\n", status=413)
FAILED = WebResponse(b"the gateway cannot answer this; its log says why\n", status=500)


def not_allowed(methods: tuple[bytes, ...]) -> WebResponse:
    """Build the answer to a request whose method is not one of `methods`."""
    allowed = b", ".join(methods)
    return WebResponse(
        b"the method is another one: expected " + allowed + b"\n",
        status=405,
        headers=((b"Allow", allowed),),
    )


def set_security_headers(request: Request) -> None:
    """Set the headers of every answer."""
    for name, value in SECURITY.items():
        request.setHeader(name, value)


def set_response(request: Request, response: WebResponse) -> None:
    """Set status and headers, without writing anything."""
    request.setResponseCode(response.status, HTTPStatus(response.status).phrase.encode())
    request.setHeader(b"Content-Type", response.content_type)
    for name, value in response.headers:
        request.setHeader(name, value)
    request.setHeader(b"Content-Length", b"%d" % len(response.body))
