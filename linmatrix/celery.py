"""The Celery application: the alarm clock of deliveries. What is to be done stands in the database.

Workers and beat log as the settings say, as web processes do, and take part in metrics and health from their start on.
"""

import logging.config
from typing import Any

from celery import Celery, signals
from django.conf import settings
from kombu.transport import redis

from linmatrix.startup import configured

# A worker that loses Redis would hand back what it had taken and not finished, over the connection that is gone: it
# then dumps the messages into a file and sounds the alarm. The sweep finds all that they are about.
redis.Channel.do_restore = False

with configured():
    settings.INSTALLED_APPS  # noqa: B018  read, so that unusable settings end the process here

app = Celery("linmatrix")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@signals.setup_logging.connect
def _set_up_logs(**_: Any) -> None:
    """Celery leaves the logs alone where somebody hears this signal."""
    logging.config.dictConfig(settings.LOGGING)


@signals.worker_ready.connect
def _begin_worker(sender: Any, **_: Any) -> None:
    from linmatrix.metrics import process  # noqa: PLC0415  only in a worker

    process.begin("worker", number_of_threads=sender.controller.concurrency)


@signals.task_prerun.connect
def _take_thread(**_: Any) -> None:
    from linmatrix.metrics.instruments import threads_busy  # noqa: PLC0415  only in a worker

    threads_busy.labels("worker").inc()


@signals.task_postrun.connect
def _give_thread_back(**_: Any) -> None:
    from linmatrix.metrics.instruments import threads_busy  # noqa: PLC0415  only in a worker

    threads_busy.labels("worker").dec()


@signals.beat_init.connect
def _begin_beat(**_: Any) -> None:
    """Beat gives a sign of life with every sweep that it asks for."""
    from linmatrix.health import pulse  # noqa: PLC0415  only in beat
    from linmatrix.metrics import process  # noqa: PLC0415

    process.begin("beat", number_of_threads=0)

    def give_sign(**_: Any) -> None:
        pulse.give(pulse.BEAT)

    signals.after_task_publish.connect(give_sign, sender="federation.tasks.sweep", weak=False)
