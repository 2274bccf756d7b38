"""The Celery application: the alarm clock of deliveries. What is to be done stands in the database."""

import os

from celery import Celery
from kombu.transport import redis

# A worker that loses Redis would hand back what it had taken and not finished, over the connection that is gone: it
# then dumps the messages into a file and sounds the alarm. The sweep finds all that they are about.
redis.Channel.do_restore = False

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "linmatrix.settings")

app = Celery("linmatrix")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
