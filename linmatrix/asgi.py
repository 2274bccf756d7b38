"""What granian serves: Django's WSGI handler behind our bridge (see linmatrix/bridge.py for why)."""

import gc

from django.conf import settings

from linmatrix.affinity import keep_to_one_core
from linmatrix.bridge import Bridge
from linmatrix.metrics import process
from linmatrix.wsgi import application as wsgi_application

# A transaction of 50 events makes some ten thousand containers and drops them again, none in a cycle. At Python's 700
# the collector would look at them dozens of times a request, a quarter of the time spent on an event.
COLLECT_AFTER = 50_000

# Before any thread is started, which inherit it.
if settings.WEB_AFFINITY:
    keep_to_one_core()

process.begin("web", number_of_threads=settings.WEB_THREADS)
application = Bridge(
    wsgi_application, threads=settings.WEB_THREADS, limits=settings.LIMITS, proxies=settings.TRUSTED_PROXIES
)

# What is loaded by now stays: full collections need not look at it.
gc.collect()
gc.freeze()
gc.set_threshold(COLLECT_AFTER, 10, 10)
