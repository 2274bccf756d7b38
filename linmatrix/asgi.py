"""What granian serves: Django's WSGI handler behind our bridge (see linmatrix/bridge.py for why)."""

import os

from linmatrix.bridge import Bridge
from linmatrix.wsgi import application as wsgi_application

# Peers call back while they handle our requests, so too few threads could wait on each other in a circle. Each one
# may hold a database connection: web processes times this many must fit PostgreSQL's max_connections.
DEFAULT_THREADS = 16

application = Bridge(wsgi_application, threads=int(os.environ.get("LINMATRIX_WEB_THREADS", DEFAULT_THREADS)))
