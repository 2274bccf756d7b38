"""The API document as a page for people, by Redoc, which comes with drf-spectacular-sidecar.

Everything that the page needs is served from here, one file out of that package's nine megabytes: it is no installed
app, or all of it would be copied with the static files at every start. The page's Content-Security-Policy lets it ask
no other server for anything.
"""

from functools import cache
from importlib import resources

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
"""The one thing that Redoc would ask another server for, and that the page's policy keeps it from."""

SCRIPT = "static/drf_spectacular_sidecar/redoc/bundles/redoc.standalone.js"

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>linmatrix: federation API</title>
<link rel="icon" href="data:,">
<style>body { margin: 0 } a[href*="redocly.com"] { display: none !important }</style>
</head>
<body>
<redoc spec-url="/openapi.json" disable-search hide-hostname expand-responses="200" path-in-middle-panel></redoc>
<noscript>This page needs JavaScript; <a href="/openapi.json">openapi.json</a> is what it shows.</noscript>
<script src="/openapi/redoc.js"></script>
</body>
</html>
"""

# Redoc sets its styles from its script, which is all that 'unsafe-inline' is for.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'unsafe-inline'",
        "img-src data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


@require_safe
def api_page(request: HttpRequest) -> HttpResponse:
    """`GET /openapi`, where the settings say so."""
    _require_enabled()
    return HttpResponse(PAGE, headers={"Content-Security-Policy": POLICY})


@require_safe
@cache_control(max_age=86400)
def api_script(request: HttpRequest) -> HttpResponse:
    """`GET /openapi/redoc.js`, where the settings say so."""
    _require_enabled()
    return HttpResponse(_script(), content_type="text/javascript; charset=utf-8")


def _require_enabled() -> None:
    if not settings.API_DOCUMENT:
        raise Http404


@cache
def _script() -> bytes:
    """Read when it is first asked for: a megabyte that most processes never hold."""
    return resources.files("drf_spectacular_sidecar").joinpath(SCRIPT).read_bytes().replace(LOGO, b"data:,")
