"""Redactions and what they name, users who refuse invites, and a way to the memberships of one server's users."""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import F, Value
from django.db.models.functions import StrIndex, Substr


class Migration(migrations.Migration):
    dependencies = [("rooms", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="Redaction",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("event_id", models.TextField(db_comment="the redaction")),
                ("sender", models.TextField()),
                ("redacts", models.TextField(db_comment="the event that it names")),
                (
                    "for_all",
                    models.BooleanField(db_comment="whether its sender may redact what users of other servers sent"),
                ),
                ("applied", models.BooleanField(default=False)),
                (
                    "room",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="rooms.room",
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=["room", "event_id"], name="redaction_once")],
                "indexes": [
                    models.Index(
                        fields=["room", "redacts"], condition=models.Q(applied=False), name="redaction_by_target"
                    ),
                ],
            },
        ),
        migrations.AddField(
            model_name="localuser",
            name="refuses_invites",
            field=models.BooleanField(
                "refuses invites", default=False, db_comment="invites by users of other servers are refused"
            ),
        ),
        migrations.AddIndex(
            model_name="stateentry",
            index=models.Index(
                F("room"),
                Substr("state_key", StrIndex("state_key", Value(":")) + 1),
                F("position"),
                condition=models.Q(type="m.room.member"),
                name="state_members_by_server",
            ),
        ),
    ]
