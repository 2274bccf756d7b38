"""The WSGI application; `linmatrix.asgi` serves it over HTTP/2."""

from django.core.wsgi import get_wsgi_application

from linmatrix.startup import configured

with configured():
    application = get_wsgi_application()
