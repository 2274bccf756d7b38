"""How each peer wants to be spoken to, and transactions that are split into parts or set aside.

The constraint that lets one transaction of a destination be under way is replaced: parts wait under branches of
their own. Rows from before have the branch of an undivided transaction, so it holds for them as it did.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("federation", "0002_pending_leaves")]

    operations = [
        migrations.AddField(
            model_name="destination",
            name="stable_paths",
            field=models.BooleanField(
                blank=True,
                db_comment="whether it serves the stable path of endpoints that have two; NULL: not known",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="destination",
            name="signs_without_content",
            field=models.BooleanField(
                blank=True,
                db_comment="whether signatures of requests without a body omit content; NULL: not known",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="destination",
            name="max_body_bytes",
            field=models.IntegerField(
                blank=True, db_comment="largest transaction of several events; NULL: our own limit", null=True
            ),
        ),
        migrations.AddField(
            model_name="destination",
            name="single_events",
            field=models.BooleanField(db_comment="a transaction for it holds one event only", default=False),
        ),
        migrations.AddField(
            model_name="destination",
            name="timeline_state",
            field=models.BooleanField(
                db_comment="state in answers to its joins is the whole line; set by an operator", default=False
            ),
        ),
        migrations.AddConstraint(
            model_name="destination",
            constraint=models.CheckConstraint(
                condition=models.Q(("max_body_bytes__isnull", True), ("max_body_bytes__gt", 0), _connector="OR"),
                name="destination_takes_some_bytes",
            ),
        ),
        migrations.AlterField(
            model_name="outboundlpdu",
            name="status",
            field=models.TextField(
                choices=[("queued", "Queued"), ("sent", "Sent"), ("refused", "Refused"), ("set-aside", "set aside")],
                default="queued",
            ),
        ),
        migrations.AddField(
            model_name="outboundtransaction",
            name="refusals",
            field=models.IntegerField(
                db_comment="answers that speak against its content; parts inherit them", default=0
            ),
        ),
        migrations.AddField(
            model_name="outboundtransaction",
            name="first_refused_at",
            field=models.DateTimeField(blank=True, db_comment="of these answers; parts inherit it", null=True),
        ),
        migrations.AddField(
            model_name="outboundtransaction",
            name="lineage",
            field=models.TextField(
                blank=True, db_comment="id of the transaction that it was split from, at first", default=""
            ),
        ),
        migrations.AddField(
            model_name="outboundtransaction",
            name="branch",
            field=models.TextField(
                blank=True, db_comment="place among a transaction's parts: 0 before 1, 00, 01", default=""
            ),
        ),
        migrations.AddField(
            model_name="outboundtransaction",
            name="split_at",
            field=models.DateTimeField(blank=True, db_comment="its parts are sent instead", null=True),
        ),
        migrations.AddField(
            model_name="outboundtransaction",
            name="set_aside_at",
            field=models.DateTimeField(blank=True, db_comment="not delivered; the queue went on without it", null=True),
        ),
        migrations.RemoveConstraint(model_name="outboundtransaction", name="outbound_one_in_flight"),
        migrations.AddConstraint(
            model_name="outboundtransaction",
            constraint=models.UniqueConstraint(
                condition=models.Q(
                    ("acked_at__isnull", True), ("set_aside_at__isnull", True), ("split_at__isnull", True)
                ),
                fields=("destination", "branch"),
                name="outbound_one_in_flight",
            ),
        ),
        migrations.AddConstraint(
            model_name="outboundtransaction",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("acked_at__isnull", True), ("split_at__isnull", True)),
                    models.Q(("acked_at__isnull", True), ("set_aside_at__isnull", True)),
                    models.Q(("set_aside_at__isnull", True), ("split_at__isnull", True)),
                    _connector="OR",
                ),
                name="outbound_one_end",
            ),
        ),
        migrations.AddIndex(
            model_name="outboundtransaction",
            index=models.Index(
                condition=models.Q(("lineage", ""), _negated=True), fields=["lineage", "branch"], name="outbound_parts"
            ),
        ),
        migrations.AddIndex(
            model_name="outboundtransaction",
            index=models.Index(
                condition=models.Q(("set_aside_at__isnull", False)),
                fields=["destination", "set_aside_at"],
                name="outbound_set_aside",
            ),
        ),
    ]
