"""libcurl's error codes as one line that tells an operator what to look at."""

import errno
import os

import pycurl

from linmatrix.transport.errors import NotConnected, Unreachable
from linmatrix.transport.target import Endpoint, Target

MAX_DETAIL = 200
"""Characters of libcurl's own message that are kept; it may repeat what a peer sent."""

# X509_V_ERR_* of OpenSSL, as CURLINFO_SSL_VERIFYRESULT reports them.
_CERTIFICATE_PROBLEMS = {
    9: "is not yet valid (or our clock is wrong)",
    10: "has expired",
    18: "is self-signed",
    19: "is from an authority we do not trust",
    20: "is from an authority we do not trust",
    21: "is from an authority we do not trust, or an intermediate certificate is missing",
}


def explain(
    error: pycurl.error, handle: pycurl.Curl, *, target: Target, endpoint: Endpoint, seconds: float, oldest_tls: str
) -> Unreachable:
    """What a transfer to `endpoint` that libcurl ended with `error` after at most `seconds` seconds comes to.

    What was sent decides whether the peer can have seen the request, not how the transfer ended: libcurl may send it
    on a kept connection, find that broken, and then fail to make a new one.
    """
    untouched = handle.getinfo(pycurl.REQUEST_SIZE) == 0
    where = str(endpoint)
    code, message = error.args
    detail = "".join(c if c.isprintable() else " " for c in message)[:MAX_DETAIL]
    if code == pycurl.E_COULDNT_CONNECT:
        reason = _refused(handle.getinfo(pycurl.OS_ERRNO), where)
    elif code == pycurl.E_PEER_FAILED_VERIFICATION:
        reason = _bad_certificate(handle.getinfo(pycurl.SSL_VERIFYRESULT), target, where)
    elif code == pycurl.E_SSL_CONNECT_ERROR:
        reason = f"no TLS connection to {where}, which must offer TLS {oldest_tls} at least: {detail}"
    elif code == pycurl.E_OPERATION_TIMEDOUT and untouched:
        reason = f"no connection to {where} in time: is it running, does a firewall drop packets?"
    elif code == pycurl.E_OPERATION_TIMEDOUT:
        reason = f"no complete answer from {where} in time ({seconds:.1f} s): {detail}"
    else:
        reason = f"connection to {where} failed: {detail}"
    return NotConnected(reason) if untouched else Unreachable(reason)


def _refused(number: int, where: str) -> str:
    if number == errno.ECONNREFUSED:
        return f"connection refused by {where}"
    return f"no connection to {where}: {os.strerror(number) if number else 'unknown reason'}"


def _bad_certificate(verify_result: int, target: Target, where: str) -> str:
    # libcurl compares the name first; the result is then what it was before (1, or 0 in older releases).
    if verify_result in (0, 1):
        return f"certificate of {where} is not for {target.tls_name}"
    problem = _CERTIFICATE_PROBLEMS.get(verify_result, f"is invalid (OpenSSL verify error {verify_result})")
    return f"certificate of {where} for {target.tls_name} {problem}"
