"""Leaves that a hub has still to be told of: refused invites and knocks that were taken back."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("federation", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="PendingLeave",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("room_id", models.TextField()),
                ("user_id", models.TextField()),
                ("hub_server", models.TextField(db_comment="who sent the invite, or took the knock")),
                ("room_version", models.TextField(db_comment="as the invite said; whether the hub tells it depends")),
                ("reason", models.TextField(blank=True, db_comment="the user's words, empty without any", default="")),
                ("created_at", models.DateTimeField(db_comment="when the user left; given up a while after")),
                (
                    "next_attempt",
                    models.DateTimeField(db_comment="not before; set ahead while a worker is at it, as its lease"),
                ),
                ("failures", models.IntegerField(db_comment="attempts without an end so far", default=0)),
                ("refusals", models.IntegerField(db_comment="of those, answers that forbade it", default=0)),
                ("last_error", models.TextField(blank=True, default="")),
            ],
            options={
                "indexes": [models.Index(fields=["next_attempt"], name="leave_due")],
                "constraints": [
                    models.UniqueConstraint(fields=("room_id", "user_id"), name="leave_one_per_user"),
                ],
            },
        ),
    ]
