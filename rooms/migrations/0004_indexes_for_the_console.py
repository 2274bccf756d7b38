"""The console's lists and plots: stays by server, rooms by age and by role, events by what is rare about them and by
time. Built without holding up who writes. And what the lists are called."""

import django.contrib.postgres.indexes
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("rooms", "0003_findings_of_a_participant")]

    operations = [
        AddIndexConcurrently(
            model_name="room", index=models.Index(fields=["-created_at", "room_id"], name="room_newest")
        ),
        AddIndexConcurrently(
            model_name="room", index=models.Index(fields=["role", "-created_at", "room_id"], name="room_by_role")
        ),
        AddIndexConcurrently(
            model_name="event",
            index=models.Index(
                fields=["verdict", "room", "position"],
                condition=models.Q(("verdict", "accepted"), _negated=True),
                name="event_not_accepted",
            ),
        ),
        AddIndexConcurrently(
            model_name="event",
            index=models.Index(
                fields=["type", "room", "position"],
                condition=models.Q(("state_key__isnull", False)),
                name="event_state_by_type",
            ),
        ),
        AddIndexConcurrently(
            model_name="event",
            index=django.contrib.postgres.indexes.BrinIndex(
                fields=["received_at"], autosummarize=True, pages_per_range=32, name="event_by_time"
            ),
        ),
        AddIndexConcurrently(
            model_name="roomserver",
            index=models.Index(fields=["server", "room", "-joined_position"], name="stay_by_server"),
        ),
        migrations.AlterModelOptions(
            name="gap", options={"verbose_name": "missing history", "verbose_name_plural": "missing history"}
        ),
        migrations.AlterModelOptions(
            name="pendinginvite",
            options={"verbose_name": "invite or knock", "verbose_name_plural": "invites and knocks"},
        ),
        migrations.AlterModelOptions(
            name="roomserver",
            options={"verbose_name": "server in a room", "verbose_name_plural": "servers in rooms"},
        ),
    ]
