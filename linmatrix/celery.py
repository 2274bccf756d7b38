"""The Celery application: the alarm clock of deliveries. What is to be done stands in the database."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "linmatrix.settings")

app = Celery("linmatrix")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
