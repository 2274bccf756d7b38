"""Devices of local users and their one-time keys, and what is known of the devices of others."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("keys", "0003_indexes_for_pruning"),
    ]

    operations = [
        migrations.CreateModel(
            name="DeviceList",
            fields=[
                ("user_id", models.TextField(primary_key=True, serialize=False)),
                (
                    "stream_id",
                    models.BigIntegerField(db_comment="number of the last change; never goes back", default=0),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Device",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("user_id", models.TextField()),
                ("device_id", models.TextField()),
                (
                    "json",
                    models.TextField(
                        blank=True, db_comment="the object that it signed, canonical JSON; empty: it was removed"
                    ),
                ),
                ("display_name", models.TextField(blank=True, default="")),
                (
                    "stream_id",
                    models.BigIntegerField(db_comment="number of its last change among those of its user's devices"),
                ),
                ("deleted", models.BooleanField(default=False)),
                ("changed_at", models.DateTimeField()),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("deleted", True)), fields=["changed_at"], name="device_removed_by_age"
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("user_id", "device_id"), name="device_once"),
                    models.UniqueConstraint(fields=("user_id", "stream_id"), name="device_changes_in_order"),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("deleted", False), models.Q(("json", ""), _negated=True)),
                            models.Q(("deleted", True), ("display_name", ""), ("json", "")),
                            _connector="OR",
                        ),
                        name="device_removed_is_empty",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="OneTimeKey",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        db_comment="the order of upload, in which keys are given away",
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("user_id", models.TextField()),
                ("device_id", models.TextField()),
                ("algorithm", models.TextField()),
                ("key_id", models.TextField()),
                (
                    "json",
                    models.TextField(blank=True, db_comment="its value, canonical JSON; empty: it was given away"),
                ),
                (
                    "identity",
                    models.BinaryField(
                        db_comment="the same for the same key, whatever its id and however it is written", max_length=64
                    ),
                ),
                ("reusable", models.BooleanField(db_comment="a last-resort or fallback key", default=False)),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("claimed_at", models.DateTimeField(blank=True, null=True)),
                ("claimed_by", models.TextField(blank=True, db_comment="the server that it was given to", default="")),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("claimed_at__isnull", True)),
                        fields=["user_id", "device_id", "algorithm", "reusable", "id"],
                        name="one_time_key_to_give",
                    ),
                    models.Index(
                        condition=models.Q(("claimed_at__isnull", False)),
                        fields=["claimed_by", "user_id", "device_id", "claimed_at"],
                        name="one_time_key_given",
                    ),
                    models.Index(
                        condition=models.Q(("claimed_at__isnull", False)),
                        fields=["claimed_at"],
                        name="one_time_key_given_by_age",
                    ),
                    models.Index(
                        condition=models.Q(("claimed_at__isnull", True), ("expires_at__isnull", False)),
                        fields=["expires_at"],
                        name="one_time_key_expiring",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("claimed_at__isnull", True)),
                        fields=("user_id", "device_id", "algorithm", "key_id"),
                        name="one_time_key_id_once",
                    ),
                    models.UniqueConstraint(
                        fields=("user_id", "device_id", "algorithm", "identity"), name="one_time_key_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("claimed_at__isnull", True), ("claimed_by", ""), models.Q(("json", ""), _negated=True)
                            ),
                            models.Q(
                                ("claimed_at__isnull", False),
                                ("json", ""),
                                ("reusable", False),
                                models.Q(("claimed_by", ""), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="one_time_key_given_once",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="RemoteDeviceList",
            fields=[
                ("user_id", models.TextField(primary_key=True, serialize=False)),
                (
                    "revision",
                    models.BigIntegerField(
                        db_comment="counts updates, so that an older answer is known as such", default=0
                    ),
                ),
                (
                    "fetched_at",
                    models.DateTimeField(blank=True, db_comment="when the whole list came; NULL: never yet", null=True),
                ),
                (
                    "stale",
                    models.BooleanField(
                        db_comment="an update could not be taken: the list is to be fetched", default=False
                    ),
                ),
                ("changed_at", models.DateTimeField(db_comment="the last answer or update")),
                (
                    "next_attempt",
                    models.DateTimeField(blank=True, db_comment="a stale list is not fetched before", null=True),
                ),
                (
                    "failures",
                    models.IntegerField(db_comment="attempts to fetch it since the last that succeeded", default=0),
                ),
                ("last_error", models.TextField(blank=True, default="")),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("stale", True)), fields=["next_attempt"], name="remote_devices_due"
                    ),
                    models.Index(fields=["changed_at"], name="remote_devices_by_age"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("next_attempt__isnull", False), ("stale", True)),
                            models.Q(
                                ("failures", 0), ("last_error", ""), ("next_attempt__isnull", True), ("stale", False)
                            ),
                            _connector="OR",
                        ),
                        name="remote_devices_stale_are_due",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="RemoteDevice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("device_id", models.TextField()),
                ("json", models.TextField(db_comment="the object that it signed, canonical JSON")),
                (
                    "user",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="devices",
                        to="keys.remotedevicelist",
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("user", "device_id"), name="remote_device_once")],
            },
        ),
    ]
