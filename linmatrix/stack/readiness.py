"""Whether a web server that was just started serves requests yet."""

import ssl
from http.client import HTTPException, HTTPSConnection

from linmatrix.stack.certificates import Authority

_SECONDS = 10.0


def answers(host: str, port: int, *, authority: Authority) -> bool:
    """Whether something with a certificate of this authority answers a request there, with whatever status."""
    context = ssl.create_default_context(cafile=str(authority.certificate_file))
    context.check_hostname = False  # we connect by address; that the authority signed for it says it is ours
    connection = HTTPSConnection(host, port, timeout=_SECONDS, context=context)
    try:
        connection.request("GET", "/_matrix/key/v2/server")
        connection.getresponse().read()
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
    return True
