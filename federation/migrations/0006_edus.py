"""What travels outside of rooms: EDUs for other servers, inboxes of our users' devices, and who has been told of which
devices. Transactions from before have no EDUs.
"""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("federation", "0005_pausing_and_blocking"),
    ]

    operations = [
        migrations.CreateModel(
            name="DeviceListNotice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("user_id", models.TextField(blank=True, default="")),
                ("room_id", models.TextField(blank=True, default="")),
                ("server", models.TextField(blank=True, default="")),
                (
                    "since_position",
                    models.BigIntegerField(
                        db_comment="servers in the room at any event from here on are concerned", default=0
                    ),
                ),
                (
                    "done_user",
                    models.TextField(blank=True, db_comment="all pairs up to this one have been looked at", default=""),
                ),
                ("done_server", models.TextField(blank=True, default="")),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.AddField(
            model_name="outboundtransaction",
            name="edus",
            field=models.JSONField(
                db_comment="of each EDU in the body: id of the outbound EDU, or [user, position] of a device list update",
                db_default=models.Value([], models.JSONField()),
                default=list,
            ),
        ),
        migrations.CreateModel(
            name="ToDeviceInbox",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("user_id", models.TextField()),
                ("device_id", models.TextField()),
                ("last_position", models.BigIntegerField(default=0)),
                ("waiting", models.IntegerField(db_comment="messages that the device has not acknowledged", default=0)),
                ("waiting_bytes", models.BigIntegerField(db_comment="of their contents", default=0)),
            ],
            options={
                "verbose_name": "to-device inbox",
                "verbose_name_plural": "to-device inboxes",
                "constraints": [
                    models.UniqueConstraint(fields=("user_id", "device_id"), name="inbox_one_per_device"),
                    models.CheckConstraint(
                        condition=models.Q(("waiting__gte", 0), ("waiting_bytes__gte", 0)),
                        name="inbox_counts_what_there_is",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="DeviceListCursor",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("user_id", models.TextField()),
                ("told", models.BigIntegerField(db_comment="0: nothing, so that it gets the whole list", default=0)),
                ("wanted", models.BigIntegerField(db_comment="more is due while this is above told")),
                (
                    "destination",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="device_lists",
                        to="federation.destination",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("told__lt", models.F("wanted"))),
                        fields=["destination", "user_id"],
                        name="device_list_due",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("destination", "user_id"), name="device_list_one_per_pair")
                ],
            },
        ),
        migrations.CreateModel(
            name="OutboundEdu",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sender", models.TextField()),
                ("json", models.TextField(db_comment="canonical JSON of the EDU")),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "destination",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="edus",
                        to="federation.destination",
                    ),
                ),
            ],
            options={
                "verbose_name": "outbound EDU",
                "verbose_name_plural": "outbound EDUs",
                "indexes": [models.Index(fields=["destination", "id"], name="edu_to_send")],
            },
        ),
        migrations.CreateModel(
            name="ToDeviceMessage",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("position", models.BigIntegerField()),
                ("sender", models.TextField()),
                ("type", models.TextField()),
                (
                    "json",
                    models.TextField(blank=True, db_comment="canonical JSON of the content; empty once acknowledged"),
                ),
                (
                    "origin",
                    models.TextField(db_comment="the server that sent it; our own for messages among our users"),
                ),
                ("txn_id", models.TextField(blank=True, db_comment="its transaction, for people", default="")),
                (
                    "source",
                    models.BinaryField(
                        db_comment="SHA-256 of its place in its transaction, or of the id that its sender gave it",
                        max_length=32,
                    ),
                ),
                ("received_at", models.DateTimeField()),
                ("acknowledged_at", models.DateTimeField(blank=True, null=True)),
                (
                    "inbox",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="messages",
                        to="federation.todeviceinbox",
                    ),
                ),
            ],
            options={
                "verbose_name": "to-device message",
                "indexes": [
                    models.Index(
                        condition=models.Q(("acknowledged_at__isnull", False)),
                        fields=["received_at"],
                        name="to_device_acknowledged",
                    ),
                    models.Index(
                        condition=models.Q(("acknowledged_at__isnull", True)),
                        fields=["inbox", "origin"],
                        name="to_device_by_origin",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("inbox", "source"), name="to_device_once"),
                    models.UniqueConstraint(fields=("inbox", "position"), name="to_device_in_order"),
                ],
            },
        ),
    ]
