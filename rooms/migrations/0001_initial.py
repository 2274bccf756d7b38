"""Rooms, their lines of events, state, audience, and what participants keep beside them."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="LocalUser",
            fields=[
                ("localpart", models.TextField(primary_key=True, serialize=False)),
                ("display_name", models.TextField(blank=True, default="")),
                ("deactivated", models.BooleanField(default=False)),
            ],
        ),
        migrations.CreateModel(
            name="PendingInvite",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("room_id", models.TextField()),
                ("user_id", models.TextField()),
                ("hub_server", models.TextField()),
                ("room_version", models.TextField()),
                ("event_id", models.TextField()),
                ("json", models.TextField(db_comment="the invite event, canonical JSON")),
                ("stripped_state", models.TextField(db_comment="stripped state events, JSON list")),
                ("received_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("room_id", "user_id"), name="invite_one_per_user")],
            },
        ),
        migrations.CreateModel(
            name="PendingJoin",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("room_id", models.TextField()),
                ("user_id", models.TextField()),
                (
                    "lease_until",
                    models.DateTimeField(db_comment="a crashed join does not hold the room's events up for longer"),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("room_id", "user_id"), name="join_one_per_user")],
            },
        ),
        migrations.CreateModel(
            name="Room",
            fields=[
                ("room_id", models.TextField(primary_key=True, serialize=False)),
                ("version", models.TextField(db_comment="room version, from the create event")),
                ("role", models.TextField(choices=[("hub", "Hub"), ("participant", "Participant")])),
                ("hub_server", models.TextField(db_comment="server of the create event's sender")),
                (
                    "head_position",
                    models.BigIntegerField(db_comment="position of the last event; 0 before the first", default=0),
                ),
                ("head_event_id", models.TextField(blank=True, default="")),
                ("blocked", models.BooleanField(db_comment="requests for the room are refused", default=False)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("role__in", ["hub", "participant"])), name="room_role_known"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("head_event_id", ""), ("head_position", 0)),
                            models.Q(("head_position__gt", 0), models.Q(("head_event_id", ""), _negated=True)),
                            _connector="OR",
                        ),
                        name="room_head_is_an_event",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Event",
            fields=[
                ("event_id", models.TextField(primary_key=True, serialize=False)),
                ("position", models.BigIntegerField(null=True)),
                (
                    "lpdu_id",
                    models.TextField(db_comment="id of the LPDU within; NULL for a hub's own event", null=True),
                ),
                ("type", models.TextField()),
                ("state_key", models.TextField(db_comment="NULL: not a state event", null=True)),
                ("sender", models.TextField()),
                (
                    "origin_server_ts",
                    models.BigIntegerField(db_comment="milliseconds since the epoch, as its sender said"),
                ),
                ("json", models.TextField(db_comment="canonical JSON of the PDU; text, since jsonb would change it")),
                (
                    "verdict",
                    models.TextField(
                        choices=[
                            ("accepted", "Accepted"),
                            ("soft-failed", "Soft Failed"),
                            ("rejected", "Rejected"),
                            ("redacted", "accepted as its redacted copy"),
                        ],
                        default="accepted",
                    ),
                ),
                ("reason", models.TextField(blank=True, db_comment="why it was not accepted", default="")),
                ("received_at", models.DateTimeField()),
                (
                    "room",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="events",
                        to="rooms.room",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="RoomServer",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("server", models.TextField()),
                ("joined_position", models.BigIntegerField()),
                ("left_position", models.BigIntegerField(blank=True, null=True)),
                ("sent_position", models.BigIntegerField()),
                (
                    "joined_users",
                    models.IntegerField(db_comment="joined users of the server; the stay ends when none is left"),
                ),
                (
                    "room",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="servers",
                        to="rooms.room",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="StateEntry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("type", models.TextField()),
                ("state_key", models.TextField()),
                ("position", models.BigIntegerField()),
                ("replaced_at", models.BigIntegerField(null=True)),
                (
                    "event",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="rooms.event",
                    ),
                ),
                (
                    "room",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="state",
                        to="rooms.room",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "state entries",
            },
        ),
        migrations.CreateModel(
            name="Gap",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("before_position", models.BigIntegerField(db_comment="the position whose predecessor is missing")),
                ("missing_event_id", models.TextField(db_comment="that predecessor's event id")),
                ("next_attempt", models.DateTimeField(auto_now_add=True)),
                ("failures", models.IntegerField(default=0)),
                ("last_error", models.TextField(blank=True, default="")),
                (
                    "room",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="gaps",
                        to="rooms.room",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["next_attempt"], name="gap_due")],
                "constraints": [models.UniqueConstraint(fields=("room", "before_position"), name="gap_one_per_place")],
            },
        ),
        migrations.CreateModel(
            name="Finding",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("server", models.TextField(db_comment="the server at fault")),
                (
                    "kind",
                    models.TextField(
                        choices=[
                            ("edit", "content does not match its hash"),
                            ("replay", "an LPDU was used twice"),
                            ("fork", "an event does not follow the last one"),
                            ("rejected", "an event that the authorization rules refuse"),
                            ("gap", "history that the hub does not give"),
                        ]
                    ),
                ),
                ("event_id", models.TextField(blank=True, default="")),
                ("evidence", models.TextField(db_comment="what was received, and why it is wrong")),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "room",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="findings",
                        to="rooms.room",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["-created_at"], name="finding_newest")],
                "constraints": [models.UniqueConstraint(fields=("room", "kind", "event_id"), name="finding_once")],
            },
        ),
        migrations.AddConstraint(
            model_name="event",
            constraint=models.UniqueConstraint(fields=("room", "position"), name="event_one_per_position"),
        ),
        migrations.AddConstraint(
            model_name="event",
            constraint=models.UniqueConstraint(fields=("room", "lpdu_id"), name="event_one_per_lpdu"),
        ),
        migrations.AddConstraint(
            model_name="event",
            constraint=models.CheckConstraint(
                condition=models.Q(("verdict__in", ["accepted", "soft-failed", "rejected", "redacted"])),
                name="event_verdict_known",
            ),
        ),
        migrations.AddIndex(
            model_name="roomserver",
            index=models.Index(fields=["room", "server", "joined_position"], name="stay_by_room"),
        ),
        migrations.AddIndex(
            model_name="roomserver",
            index=models.Index(fields=["room", "left_position"], name="stay_by_end"),
        ),
        migrations.AddIndex(
            model_name="roomserver",
            index=models.Index(
                condition=models.Q(
                    ("left_position__isnull", True), ("sent_position__lt", models.F("left_position")), _connector="OR"
                ),
                fields=["server", "room"],
                name="stay_to_send",
            ),
        ),
        migrations.AddConstraint(
            model_name="roomserver",
            constraint=models.UniqueConstraint(
                condition=models.Q(("left_position__isnull", True)), fields=("room", "server"), name="stay_one_current"
            ),
        ),
        migrations.AddConstraint(
            model_name="roomserver",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("joined_users__gt", 0), ("left_position__isnull", True)),
                    models.Q(("joined_users", 0), ("left_position__isnull", False)),
                    _connector="OR",
                ),
                name="stay_ends_with_its_last_user",
            ),
        ),
        migrations.AddIndex(
            model_name="stateentry",
            index=models.Index(fields=["room", "position"], name="state_by_position"),
        ),
        migrations.AddIndex(
            model_name="stateentry",
            index=models.Index(fields=["room", "replaced_at", "position"], name="state_by_replacement"),
        ),
        migrations.AddConstraint(
            model_name="stateentry",
            constraint=models.UniqueConstraint(
                condition=models.Q(("replaced_at__isnull", True)),
                fields=("room", "type", "state_key"),
                include=("event",),
                name="state_one_current",
            ),
        ),
        migrations.AddConstraint(
            model_name="stateentry",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("replaced_at__isnull", True), ("replaced_at__gt", models.F("position")), _connector="OR"
                ),
                name="state_interval_ordered",
            ),
        ),
    ]
