"""Finding keys and requests for them by their age, for `keys.history.prune` and `keys.leases.prune`; built without
holding up who writes."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("keys", "0002_notaries")]

    operations = [
        AddIndexConcurrently(model_name="keyfetch", index=models.Index(fields=["asked_at"], name="key_fetch_by_age")),
        AddIndexConcurrently(
            model_name="keyresponse", index=models.Index(fields=["fetched_at"], name="key_response_by_age")
        ),
        AddIndexConcurrently(model_name="serverkey", index=models.Index(fields=["fetched_at"], name="key_by_age")),
    ]
