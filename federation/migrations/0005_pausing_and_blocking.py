"""What an operator can hold back: transactions for one server, and everything from and to blocked ones.

Leaves get a lease of their own beside the time of their next attempt, so that the latter can be brought forward while
a worker is at one. A lease from before is in `next_attempt` and runs out there.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("federation", "0004_indexes_for_pruning"),
    ]

    operations = [
        migrations.CreateModel(
            name="BlockedServer",
            fields=[
                (
                    "servers",
                    models.TextField(
                        db_comment="lower case: a host with all its ports, a glob of hosts with * and ?, or either with one port",
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "reason",
                    models.TextField(blank=True, db_comment="for other operators; no server is told", default=""),
                ),
                ("blocked_at", models.DateTimeField(verbose_name="blocked since")),
                ("blocked_by", models.TextField(blank=True, db_comment="who did it; empty: the command", default="")),
            ],
        ),
        migrations.AlterModelOptions(
            name="destination",
            options={
                "permissions": [
                    ("retry_destination", "Can have a server tried again before its time"),
                    ("pause_destination", "Can hold back and resume transactions for a server"),
                ]
            },
        ),
        migrations.AddField(
            model_name="destination",
            name="paused_at",
            field=models.DateTimeField(
                blank=True, db_comment="an operator holds transactions back since then; NULL: not paused", null=True
            ),
        ),
        migrations.AddField(
            model_name="destination",
            name="paused_reason",
            field=models.TextField(blank=True, db_comment="why, for other operators", db_default="", default=""),
        ),
        migrations.AddField(
            model_name="pendingleave",
            name="lease_until",
            field=models.DateTimeField(blank=True, db_comment="a worker is at it until then at most", null=True),
        ),
        migrations.AlterField(
            model_name="pendingleave",
            name="next_attempt",
            field=models.DateTimeField(db_comment="not before"),
        ),
        migrations.AddIndex(
            model_name="pendingleave",
            index=models.Index(
                condition=models.Q(("failures__gt", 0)), fields=["hub_server"], name="leave_failed_by_hub"
            ),
        ),
    ]
