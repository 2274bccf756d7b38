"""Finding transactions by when they ended, for `federation.housekeeping`; built without holding up who writes."""

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("federation", "0003_wire_profile_and_isolation")]

    operations = [
        AddIndexConcurrently(
            model_name="outboundtransaction",
            index=models.Index(
                condition=models.Q(("acked_at__isnull", False)), fields=["acked_at"], name="outbound_by_ack"
            ),
        ),
        AddIndexConcurrently(
            model_name="outboundtransaction",
            index=models.Index(
                condition=models.Q(("split_at__isnull", False)), fields=["split_at"], name="outbound_by_split"
            ),
        ),
        AddIndexConcurrently(
            model_name="outboundtransaction",
            index=models.Index(
                condition=models.Q(("set_aside_at__isnull", False)),
                fields=["set_aside_at"],
                name="outbound_by_set_aside",
            ),
        ),
        RemoveIndexConcurrently(model_name="outboundtransaction", name="outbound_by_age"),
    ]
