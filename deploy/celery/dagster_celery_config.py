"""What the Celery workers go by; dagster-celery reads it where it lies on PYTHONPATH."""

from os import environ

_DAY = 86_400

broker_url = environ["DAGSTER_CELERY_BROKER"]
result_backend = environ["DAGSTER_CELERY_BACKEND"]

# A process for each run: its memory goes with it, and the next one begins with the code that lies there then.
worker_max_tasks_per_child = 1

# A worker takes no run that it cannot begin at once: another one may be idle. Only Redis can do that.
worker_disable_prefetch = True

# Dagster asks Celery how a run's task is. What has been forgotten counts as dead, and the run would be made twice.
result_expires = 30 * _DAY

# Redis gives a task that nobody has taken on for so long to somebody else.
broker_transport_options = {"visibility_timeout": 30 * _DAY}
