"""The WSGI application; `linmatrix.asgi` serves it over HTTP/2."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "linmatrix.settings")

application = get_wsgi_application()
