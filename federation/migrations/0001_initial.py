"""Inbound transactions and outbound queues."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Destination",
            fields=[
                ("server", models.TextField(primary_key=True, serialize=False)),
                ("pending", models.BooleanField(default=False)),
                ("next_attempt", models.DateTimeField(blank=True, db_comment="not before; NULL: at once", null=True)),
                ("failures", models.IntegerField(db_comment="failed attempts since the last success", default=0)),
                ("failing_since", models.DateTimeField(blank=True, null=True)),
                ("last_error", models.TextField(blank=True, default="")),
                ("last_success_at", models.DateTimeField(blank=True, null=True)),
                (
                    "lease_until",
                    models.DateTimeField(blank=True, db_comment="a worker delivers until then at most", null=True),
                ),
                ("lease_holder", models.TextField(blank=True, default="")),
                (
                    "turn",
                    models.TextField(blank=True, db_comment="room after which the next transaction begins", default=""),
                ),
            ],
            options={
                "indexes": [
                    models.Index(condition=models.Q(("pending", True)), fields=["next_attempt"], name="destination_due")
                ],
            },
        ),
        migrations.CreateModel(
            name="InboundTransaction",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("origin", models.TextField()),
                ("endpoint", models.TextField(db_comment="send, invite, ...; stable and unstable paths share it")),
                ("txn_id", models.TextField()),
                ("body_sha256", models.BinaryField(max_length=32)),
                (
                    "lease_until",
                    models.DateTimeField(db_comment="a crashed process does not hold the peer up for longer"),
                ),
                ("status", models.SmallIntegerField(blank=True, null=True)),
                ("response", models.BinaryField(blank=True, db_comment="the body that was answered", null=True)),
                ("received_at", models.DateTimeField()),
            ],
            options={
                "indexes": [models.Index(fields=["received_at"], name="inbound_by_age")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("origin", "endpoint", "txn_id", "body_sha256"), name="inbound_once"
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("endpoint", "send"), ("status__isnull", True)),
                        fields=("origin",),
                        name="inbound_one_in_flight",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="OutboundLpdu",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("lpdu_id", models.TextField(unique=True)),
                ("room_id", models.TextField()),
                ("sender", models.TextField()),
                ("json", models.TextField(db_comment="canonical JSON of the LPDU")),
                (
                    "status",
                    models.TextField(
                        choices=[("queued", "Queued"), ("sent", "Sent"), ("refused", "Refused")], default="queued"
                    ),
                ),
                (
                    "reason",
                    models.TextField(blank=True, db_comment="what the hub said when it refused the LPDU", default=""),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "destination",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="lpdus",
                        to="federation.destination",
                    ),
                ),
            ],
            options={
                "verbose_name": "outbound LPDU",
                "indexes": [
                    models.Index(
                        condition=models.Q(("status", "queued")), fields=["destination", "id"], name="lpdu_to_send"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="OutboundTransaction",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("txn_id", models.TextField(unique=True)),
                ("path", models.TextField(db_comment="request target; the signature covers it")),
                ("body", models.BinaryField()),
                (
                    "cursors",
                    models.JSONField(db_comment="[[stay id, position], ...]: how far this brings the receiver"),
                ),
                ("lpdus", models.JSONField(db_comment="ids of the outbound LPDUs in the body")),
                ("events", models.IntegerField(db_comment="number of PDUs and LPDUs in the body")),
                ("attempts", models.IntegerField(default=0)),
                ("last_error", models.TextField(blank=True, default="")),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("acked_at", models.DateTimeField(blank=True, null=True)),
                (
                    "destination",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="transactions",
                        to="federation.destination",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["acked_at"], name="outbound_by_age")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("acked_at__isnull", True)),
                        fields=("destination",),
                        name="outbound_one_in_flight",
                    )
                ],
            },
        ),
    ]
